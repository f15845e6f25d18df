//! An event as a Kafka record: `CloudEvents` 1.0 in binary mode (Kafka Protocol Binding,
//! section 3.2), so that routers and consumers know the event's type without the payload.
//!
//! The record depends on the row alone, so all copies of an event are the same, byte for
//! byte. Its timestamp is therefore in whole milliseconds, Kafka's unit: rskafka rounds the
//! distance to the first record of a request, so a finer one would depend on that record.

use chrono::{DateTime, Utc};
use rskafka::record::Record;

use crate::model::{PendingEvent, Timestamp};

pub(super) fn record(event: &PendingEvent) -> Record {
    let user_id = event.user_id.to_string();
    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.event_id.to_string()),
        ("ce_source", "/realchat/auth".to_owned()),
        ("ce_type", event.event_type.clone()),
        ("ce_time", event.occurred_at.to_string()),
        ("ce_subject", user_id.clone()),
        // Zero-padded, so that text order is number order (CloudEvents "sequence" extension).
        ("ce_sequence", format!("{:020}", event.user_version)),
        ("content-type", "application/protobuf".to_owned()),
    ];
    let traceparent = event.traceparent.clone().map(|t| ("traceparent", t));
    Record {
        key: Some(user_id.into_bytes()),
        value: Some(event.payload.clone()),
        headers: (headers.into_iter().chain(traceparent))
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect(),
        timestamp: milliseconds(event.occurred_at),
    }
}

/// The maximum size in bytes of the event's record in a produce request. It is computed
/// without building the record: building each twice took most of the poller's time.
pub(super) fn encoded_size(event: &PendingEvent) -> usize {
    /// Length, attributes, timestamp, offset, and the lengths of key, value and headers.
    const FIELDS: usize = 32;
    /// The lengths of nine headers' names and values.
    const HEADER_FIELDS: usize = 9 * 4;
    /// The key, and the names and values of the headers, except for those added below.
    const TEXT: usize = 267;

    let trace = event.traceparent.as_ref();
    let trace = trace.map_or(0, |trace| "traceparent".len() + trace.len());
    FIELDS + HEADER_FIELDS + TEXT + event.event_type.len() + trace + event.payload.len()
}

fn milliseconds(time: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(time.as_micros().div_euclid(1000)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::kafka::partition_queue::tests::event;

    #[test]
    fn a_record_is_a_cloud_event_in_binary_mode() {
        let event = PendingEvent {
            traceparent: Some("00-aa-bb-01".to_owned()),
            ..event(1, 7, 3)
        };
        let record = record(&event);
        let headers = record.headers.iter();
        let headers: Vec<String> = headers
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
            .collect();
        insta::assert_snapshot!(headers.join("\n"), @"
        ce_id: 01010101-0101-0101-0101-010101010101
        ce_sequence: 00000000000000000003
        ce_source: /realchat/auth
        ce_specversion: 1.0
        ce_subject: 07070707-0707-0707-0707-070707070707
        ce_time: 2025-11-24T22:42:52.000001Z
        ce_type: USER_CREATED
        content-type: application/protobuf
        traceparent: 00-aa-bb-01
        ");
        assert_eq!(record.key, Some(event.user_id.to_string().into_bytes()));
        assert_eq!(record.value, Some(event.payload));
        assert_eq!(record.timestamp.timestamp_micros(), 1_764_024_172_000_000);
    }

    #[test]
    fn the_size_of_a_record_is_computed_without_building_it() {
        let plain = event(1, 7, i64::MAX);
        let traced = PendingEvent {
            traceparent: Some("00-aa-bb-01".to_owned()),
            ..plain.clone()
        };
        for event in [plain, traced] {
            let text = encoded_size(&event) - 32 - 9 * 4;
            assert_eq!(text, record(&event).approximate_size());
        }
    }
}
