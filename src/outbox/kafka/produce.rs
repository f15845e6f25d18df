use std::sync::Arc;

use prometheus_client::metrics::histogram::Histogram;
use rskafka::client::{
    error::{Error, ProtocolError},
    partition::{Compression, PartitionClient},
};
use tokio::time::Instant;

use super::{
    PRODUCE_TIMEOUT,
    connect::{Partition, within},
    partition_queue::{PartitionQueue, Request},
    record::record,
};
use crate::outbox::publisher::{PublishError, Published};

/// Sends requests one after the other, until the queue is empty, a request has a fault or
/// could outlive the lease.
pub(super) async fn send_all(
    mut queue: PartitionQueue<'_>,
    partition: &Partition,
    lease_end: Instant,
    durations: &Histogram,
) -> Published {
    while let Some(request) = queue.next() {
        if Instant::now() + PRODUCE_TIMEOUT >= lease_end {
            break;
        }
        let answer = match partition {
            Ok(client) => {
                let sent = Instant::now();
                let answer = within(PRODUCE_TIMEOUT, produce(client, &request)).await;
                durations.observe(sent.elapsed().as_secs_f64());
                answer
            }
            Err(closed) => Err(closed.clone()),
        };
        match answer {
            Ok(Answer::Acknowledged) => queue.acknowledge(&request),
            Ok(Answer::Refused(reason)) => queue.refuse(&request, reason.to_string()),
            Err(fault) => {
                queue.published.fault = Some(fault);
                break;
            }
        }
    }
    queue.published
}

enum Answer {
    Acknowledged,
    Refused(ProtocolError),
}

async fn produce(client: &PartitionClient, request: &Request<'_>) -> Result<Answer, PublishError> {
    let records = request.iter().map(|event| record(event)).collect();
    match client.produce(records, Compression::NoCompression).await {
        Ok(_offsets) => Ok(Answer::Acknowledged),
        Err(Error::ServerError { protocol_error, .. }) if is_about_a_record(protocol_error) => {
            Ok(Answer::Refused(protocol_error))
        }
        Err(error) => Err(PublishError::Produce(Arc::new(error))),
    }
}

/// Whether Kafka validated the records and would refuse one of them again: the validation
/// errors that its protocol calls not retriable. (`CorruptMessage` is retriable: it reports
/// a damaged transfer.)
fn is_about_a_record(error: ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::MessageTooLarge
            | ProtocolError::RecordListTooLarge
            | ProtocolError::InvalidRecord
            | ProtocolError::InvalidTimestamp
    )
}
