//! From a call to the record on a real broker.

mod accounts;
mod connections;
mod faults;
mod imports;
mod load;
mod partition;
mod sasl;

use std::{sync::Arc, time::Duration};

use auth_service::{
    app::SystemClock,
    model::{Clock as _, Timestamp},
    proto::{RegisterRequest, RegisterResponse, SessionEndReason, UserEvent, user_event::Payload},
};
use prost::Message as _;
use tonic::Request;

use self::partition::java_partition;
use crate::harness::{
    EVENTS, Kafka, ManualClock, Record, Service, TestDatabase, both, login, logout, refresh,
    refused, register,
};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A manual clock near the time of the broker, which checks timestamps.
fn clock() -> Arc<ManualClock> {
    let second = SystemClock.now().as_secs() * 1_000_000;
    Arc::new(ManualClock::new(Timestamp::from_micros(second + 123_004)))
}

async fn serve(database: TestDatabase, kafka: &Kafka, options: &[&str]) -> Service {
    let kafka = [
        "--kafka-brokers",
        &kafka.brokers,
        "--kafka-topic",
        &kafka.topic,
    ];
    let own: Vec<_> = (kafka.chunks(2))
        .filter(|option| !options.contains(&option[0]))
        .flatten()
        .copied()
        .collect();
    Service::start_at(database, clock(), &[&own, options].concat()).await
}

async fn sign_up(service: &Service, email: &str) -> RegisterResponse {
    let request = RegisterRequest {
        start_session: true,
        ..register(email)
    };
    service
        .client()
        .register(request)
        .await
        .unwrap()
        .into_inner()
}

fn decode(record: &Record) -> UserEvent {
    UserEvent::decode(record.value.as_slice()).expect("a UserEvent")
}

fn headers(record: &Record) -> Vec<(&str, &str)> {
    let headers = record.headers.iter();
    headers
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

both! {
    async fn a_registration_becomes_a_record_in_its_users_partition(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let service = serve(database, &kafka, &[]).await;
        let mut request = Request::new(register("Ana@Example.com"));
        request
            .metadata_mut()
            .insert("traceparent", TRACEPARENT.parse().unwrap());
        let response = service
            .client()
            .register(request)
            .await
            .unwrap()
            .into_inner();
        let user_id = response.user_id;

        let records = kafka.wait_for(1).await;
        let record = &records[0];
        assert_eq!(record.key, user_id);
        assert_eq!(record.partition, java_partition(&user_id));
        let event = decode(record);
        let now = service.clock.now();
        assert!(event.user_id == user_id && event.user_version == 1);
        assert_eq!(event.occurred_at, response.created_at);
        assert_eq!(event.occurred_at.unwrap().nanos, 123_004_000);
        let Some(Payload::UserCreated(created)) = event.payload else {
            panic!("another payload")
        };
        assert_eq!(created.email, "ana@example.com");
        assert_eq!(created.created_at, response.created_at);
        assert_eq!(
            headers(record),
            [
                ("ce_id", event.event_id.as_str()),
                ("ce_sequence", "00000000000000000001"),
                ("ce_source", "/realchat/auth"),
                ("ce_specversion", "1.0"),
                ("ce_subject", &user_id),
                ("ce_time", &now.to_string()),
                ("ce_type", "USER_CREATED"),
                ("content-type", "application/protobuf"),
                ("traceparent", TRACEPARENT),
            ]
        );
        assert!(record.headers["ce_time"].ends_with(".123004Z"));
        assert_eq!(
            uuid::Uuid::parse_str(&event.event_id)
                .unwrap()
                .get_version_num(),
            7
        );
        service.database.wait_for(EVENTS, 0).await;
    }

    async fn an_invalid_trace_context_does_not_reach_kafka(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let service = serve(database, &kafka, &[]).await;
        sign_up(&service, "without@example.com").await;
        let mut request = Request::new(register("invalid@example.com"));
        request
            .metadata_mut()
            .insert("traceparent", "00-0-0-01".parse().unwrap());
        service.client().register(request).await.unwrap();
        for record in kafka.wait_for(2).await {
            assert_eq!(record.headers.len(), 8, "{:?}", record.headers);
        }
    }

    async fn the_ends_of_sessions_follow_their_user_in_order(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let service = serve(database, &kafka, &[]).await;
        let ana = sign_up(&service, "ana@example.com").await;
        let (user_id, session_id) = (ana.user_id, ana.session_id);
        let first = ana.tokens.unwrap().refresh_token;
        let login = login("ana@example.com");
        let other = service.client().login(login).await.unwrap().into_inner();

        let second = service
            .client()
            .refresh(refresh(&first))
            .await
            .unwrap()
            .into_inner();
        service
            .client()
            .refresh(refresh(&second.tokens.unwrap().refresh_token))
            .await
            .unwrap();
        refused(service.client().refresh(refresh(&first)).await);
        service.clock.advance(Duration::from_secs(1));
        service
            .client()
            .logout(logout(&other.tokens.unwrap().refresh_token))
            .await
            .unwrap();

        let mut records = kafka.wait_for(3).await;
        records.sort_by_key(|record| record.offset);
        assert!(records.iter().all(|record| record.key == user_id));
        assert!(
            records
                .iter()
                .all(|record| record.partition == java_partition(&user_id))
        );
        let versions: Vec<_> = records
            .iter()
            .map(|record| decode(record).user_version)
            .collect();
        assert_eq!(versions, [1, 2, 3]);
        let hour = Duration::from_hours(1);
        let now = service.clock.now();
        for (record, reason, session, at) in [
            (
                &records[1],
                SessionEndReason::Reuse,
                session_id,
                now - Duration::from_secs(1),
            ),
            (&records[2], SessionEndReason::Logout, other.session_id, now),
        ] {
            let event = decode(record);
            assert_eq!(record.headers["ce_type"], "SESSION_ENDED");
            assert_eq!(
                record.headers["ce_sequence"],
                format!("{:020}", event.user_version)
            );
            assert_eq!(record.headers["ce_id"], event.event_id);
            assert_eq!(record.headers["ce_time"], at.to_string());
            let Some(Payload::SessionEnded(ended)) = event.payload else {
                panic!("another payload")
            };
            assert_eq!(ended.session_id, session);
            assert!(ended.reason() == reason);
            // After a rotation a retry could have come until the end of its window.
            let latest = match reason {
                SessionEndReason::Reuse => at.whole_seconds() + hour + Duration::from_secs(30),
                _ => at + hour,
            };
            assert_eq!(ended.access_tokens_expire_at, Some(latest.into()));
        }
        service.database.wait_for(EVENTS, 0).await;
    }

    async fn a_refused_registration_publishes_nothing(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let service = serve(database, &kafka, &[]).await;
        sign_up(&service, "ana@example.com").await;
        refused(service.client().register(register("ana@example.com")).await);
        let last = sign_up(&service, "ben@example.com").await;
        let records = kafka.wait_for(2).await;
        service.database.wait_for(EVENTS, 0).await;
        assert_eq!(records.len(), 2);
        assert!(records.iter().any(|record| record.key == last.user_id));
    }
}
