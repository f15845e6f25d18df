use std::sync::Arc;

use prometheus_client::metrics::histogram::Histogram;
use rskafka::client::{
    error::{Error, ProtocolError},
    partition::{Compression, PartitionClient},
};
use tokio::time::Instant;

use super::{
    PRODUCE_TIMEOUT,
    connect::within,
    partition_queue::{PartitionQueue, Refusal, Request},
    record::record,
};
use crate::outbox::publisher::{PublishError, Published};

/// Sends requests one after the other, until the queue is empty, a request has a fault or
/// could outlive the lease.
pub(super) async fn send_all(
    mut queue: PartitionQueue<'_>,
    client: &PartitionClient,
    lease_end: Instant,
    durations: &Histogram,
) -> Published {
    while let Some(request) = queue.next() {
        if Instant::now() + PRODUCE_TIMEOUT >= lease_end {
            break;
        }
        let sent = Instant::now();
        let answer = within(PRODUCE_TIMEOUT, produce(client, &request)).await;
        durations.observe(sent.elapsed().as_secs_f64());
        match answer {
            Ok(Answer::Acknowledged) => queue.acknowledge(&request),
            Ok(Answer::Refused(refusal)) => queue.refuse(&request, refusal),
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
    Refused(Refusal),
}

async fn produce(client: &PartitionClient, request: &Request<'_>) -> Result<Answer, PublishError> {
    let records = request.iter().map(|event| record(event)).collect();
    match client.produce(records, Compression::NoCompression).await {
        Ok(_offsets) => Ok(Answer::Acknowledged),
        Err(error) => match refusal(&error) {
            Some(refusal) => Ok(Answer::Refused(refusal)),
            None => Err(PublishError::Produce(Arc::new(error))),
        },
    }
}

/// Whether Kafka validated the records and refused one of them: the validation errors that its
/// protocol calls not retriable. (`CorruptMessage` is retriable: it reports a damaged transfer.)
fn refusal(error: &Error) -> Option<Refusal> {
    let Error::ServerError { protocol_error, .. } = error else {
        return None;
    };
    match protocol_error {
        ProtocolError::InvalidTimestamp => Some(Refusal::Time),
        ProtocolError::MessageTooLarge
        | ProtocolError::RecordListTooLarge
        | ProtocolError::InvalidRecord => Some(Refusal::Record(protocol_error.to_string())),
        _ => None,
    }
}
