//! The events of an account from registration to deletion, as a consumer gets them.

use std::time::Duration;

use auth_service::{
    model::{Clock as _, Timestamp},
    proto::{SessionEndReason, UserEvent, user_event::Payload},
};

use super::{clock, decode, java_partition, serve};
use crate::harness::{
    EVENTS, Kafka, Record, Service, TestDatabase, both, change_password, delete_account,
    end_session, register,
};

const NEW_PASSWORD: &str = "quiet meadow brass lantern";

/// The CloudEvents headers agree with the event.
fn assert_envelope(record: &Record, event: &UserEvent, kind: &str, at: Timestamp) {
    let expected = [
        ("ce_id", event.event_id.clone()),
        ("ce_sequence", format!("{:020}", event.user_version)),
        ("ce_source", "/realchat/auth".to_owned()),
        ("ce_specversion", "1.0".to_owned()),
        ("ce_subject", event.user_id.clone()),
        ("ce_time", at.to_string()),
        ("ce_type", kind.to_owned()),
        ("content-type", "application/protobuf".to_owned()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(record.headers, expected.into());
    assert_eq!(record.partition, java_partition(&event.user_id));
    assert_eq!(event.occurred_at, Some(at.into()));
}

both! {
    async fn the_events_of_a_deleted_account_are_published_and_its_deletion_is_the_last(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        // Her events stay in the outbox until the service with Kafka starts.
        let service = Service::start_at(database, clock(), &[]).await;
        let ana = service.sign_up("ana@example.com").await;
        let born = service.clock.now();
        let [phone, laptop] = [
            service.sign_in("ana@example.com").await,
            service.sign_in("ana@example.com").await,
        ];
        let mut account = service.account(&ana);
        account.end_session(end_session(&phone.id)).await.unwrap();
        service.clock.advance(Duration::from_micros(5));
        let changed = service.clock.now();
        account.change_password(change_password(NEW_PASSWORD)).await.unwrap();
        service.clock.advance(Duration::from_micros(5));
        let gone = service.clock.now();
        account.delete_account(delete_account(NEW_PASSWORD)).await.unwrap();
        let again = service.client().register(register("ana@example.com")).await.unwrap();
        let again = again.into_inner().user_id;

        let (stopped, database) = service.stop().await;
        stopped.unwrap();
        let service = serve(database, &kafka, &[]).await;
        let records = kafka.wait_for(7).await;
        service.database.wait_for(EVENTS, 0).await;
        let mut of_ana: Vec<_> =
            records.iter().filter(|record| record.key == ana.user_id).collect();
        of_ana.sort_by_key(|record| record.offset);
        let hour = Duration::from_hours(1);
        let expected = [
            ("USER_CREATED", born),
            ("SESSION_ENDED", born),
            ("PASSWORD_CHANGED", changed),
            ("SESSION_ENDED", changed),
            ("SESSION_ENDED", gone),
            ("USER_DELETED", gone),
        ];
        assert_eq!(of_ana.len(), expected.len());
        for ((version, record), (kind, at)) in (1..).zip(of_ana).zip(expected) {
            let event = decode(record);
            assert_eq!(event.user_version, version);
            assert_envelope(record, &event, kind, at);
            match event.payload.unwrap() {
                Payload::UserCreated(created) => assert_eq!(created.email, "ana@example.com"),
                Payload::PasswordChanged(event) => {
                    assert_eq!(event.changed_at, Some(changed.into()));
                }
                Payload::SessionEnded(ended) => {
                    let (session, reason) = match version {
                        2 => (&phone.id, SessionEndReason::EndedByUser),
                        5 => (&ana.id, SessionEndReason::AccountDeleted),
                        _ => (&laptop.id, SessionEndReason::PasswordChanged),
                    };
                    assert!(ended.session_id == *session && ended.reason() == reason);
                    assert_eq!(ended.access_tokens_expire_at, Some((at + hour).into()));
                }
                Payload::UserDeleted(event) => assert_eq!(event.deleted_at, Some(gone.into())),
                _ => panic!("no such act"),
            }
        }
        assert!(records.iter().any(|record| record.key == again), "a new user");
    }
}
