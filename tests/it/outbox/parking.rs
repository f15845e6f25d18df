//! Records that Kafka refuses, and the command that lists, requeues and discards them.

use std::{env, sync::Arc};

use auth_service::outbox::{Outcome, publisher::Published};

use super::{Fake, created, ended, log_out, open, poller, sign_up};
use crate::harness::{EVENTS, Ended, PARKED, Process, START, Service, TestDatabase, both};

async fn outbox_command(database: &TestDatabase, arguments: &[&str]) -> Ended {
    let url = database.url();
    let arguments = [&["outbox"], arguments].concat();
    Process::run(&env::temp_dir(), &arguments, &[("DATABASE_URL", &url)]).await
}

/// A time that no clock has reached.
fn far(database: &TestDatabase) -> String {
    database.time(START + std::time::Duration::from_hours(24 * 365 * 100))
}

both! {
    async fn a_refused_event_is_parked_and_blocks_its_own_user_only(service: Service) {
        let (_, ana) = sign_up(&service, "ana@example.com").await;
        let (ben_id, ben) = sign_up(&service, "ben@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            acknowledged: vec![events[1].id],
            refused: vec![(events[0].id, "too large".to_owned())],
            ..Published::default()
        });
        let mut poller = poller(&service.database, &fake);
        poller.tick().await.unwrap();
        assert_eq!(service.database.count(EVENTS).await, 1);
        assert_eq!(service.database.count(PARKED).await, 1);

        log_out(&service, &ana).await;
        log_out(&service, &ben).await;
        assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
        assert_eq!(fake.offered(), [ended(2)]);
        assert_eq!(fake.batches()[1][0].user_id.to_string(), ben_id);
        assert_eq!(poller.tick().await.unwrap(), Outcome::Idle);
        assert_eq!(service.database.count(EVENTS).await, 2);
    }

    async fn a_parked_event_is_listed_without_its_email_and_requeued(service: Service) {
        let (user_id, token) = sign_up(&service, "ana@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            refused: vec![(events[0].id, "MessageTooLarge".to_owned())],
            ..Published::default()
        });
        let mut poller = poller(&service.database, &fake);
        poller.tick().await.unwrap();
        log_out(&service, &token).await;
        let event_id = fake.batches()[0][0].event_id.to_string();

        let list = outbox_command(&service.database, &["list"]).await;
        assert_eq!(list.code, Some(0));
        let parked_at = START.to_string();
        assert_eq!(
            list.stdout,
            format!("{event_id}\t{user_id}\tUSER_CREATED\t{parked_at}\tMessageTooLarge\t1\n")
        );
        let requeue = outbox_command(&service.database, &["requeue", &event_id]).await;
        assert_eq!(requeue.code, Some(0));
        assert_eq!(requeue.stdout, format!("{event_id} requeued\n"));
        assert_eq!(
            outbox_command(&service.database, &["list"]).await.stdout,
            ""
        );
        assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
        assert_eq!(fake.offered(), [created(1), ended(2)]);
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn all_parked_events_can_be_requeued_at_once(service: Service) {
        sign_up(&service, "ana@example.com").await;
        sign_up(&service, "ben@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            refused: events
                .iter()
                .map(|event| (event.id, "invalid".to_owned()))
                .collect(),
            ..Published::default()
        });
        let mut poller = poller(&service.database, &fake);
        poller.tick().await.unwrap();
        assert_eq!(service.database.count(PARKED).await, 2);
        let requeue = outbox_command(&service.database, &["requeue", "--all"]).await;
        assert_eq!(requeue.code, Some(0));
        assert_eq!(requeue.stdout.lines().count(), 2);
        assert_eq!(service.database.count(PARKED).await, 0);
        poller.tick().await.unwrap();
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn a_discarded_event_is_gone_and_frees_its_user(service: Service) {
        let (_, token) = sign_up(&service, "ana@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            refused: vec![(events[0].id, "invalid".to_owned())],
            ..Published::default()
        });
        let mut poller = poller(&service.database, &fake);
        poller.tick().await.unwrap();
        log_out(&service, &token).await;
        let event_id = fake.batches()[0][0].event_id.to_string();
        let discard = outbox_command(&service.database, &["discard", &event_id]).await;
        assert_eq!(discard.code, Some(0));
        assert_eq!(discard.stdout, format!("{event_id} discarded\n"));
        poller.tick().await.unwrap();
        assert_eq!(fake.offered(), [ended(2)]);
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn an_event_whose_time_is_refused_waits_with_its_user_only(service: Service) {
        let (_, ana) = sign_up(&service, "ana@example.com").await;
        sign_up(&service, "ben@example.com").await;
        let database = &service.database;
        database.execute(&format!("UPDATE outbox_events SET occurred_at = {}", far(database))).await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            acknowledged: vec![events[1].id],
            untimely: vec![events[0].id],
            ..Published::default()
        });
        let mut poller = poller(database, &fake);
        assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
        log_out(&service, &ana).await;
        assert_eq!(poller.tick().await.unwrap(), Outcome::Idle, "her later event waits, too");
        assert_eq!(database.count(PARKED).await, 0);
        assert_eq!(database.count(EVENTS).await, 2);
        let listed = outbox_command(database, &["list"]).await;
        assert_eq!(listed.stdout, "");

        // The wait is over; or a clock that was ahead wrote it.
        for retry_at in [database.time(START), far(database)] {
            let sql = format!("UPDATE outbox_events SET retry_at = {retry_at} WHERE retry_at IS NOT NULL");
            database.execute(&sql).await;
            fake.next(|events| Published {
                untimely: vec![events[0].id],
                ..Published::default()
            });
            assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
            assert_eq!(fake.offered(), [created(1), ended(2)]);
        }
        let sql = format!("UPDATE outbox_events SET retry_at = {}", database.time(START));
        database.execute(&sql).await;
        poller.tick().await.unwrap();
        assert_eq!(fake.offered(), [created(1), ended(2)]);
        assert_eq!(database.count(EVENTS).await, 0);
    }

    async fn an_event_that_is_too_old_for_kafka_is_parked(service: Service) {
        sign_up(&service, "ana@example.com").await;
        let database = &service.database;
        let old = database.time(START - std::time::Duration::from_hours(1000));
        database.execute(&format!("UPDATE outbox_events SET occurred_at = {old}")).await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            untimely: vec![events[0].id],
            ..Published::default()
        });
        poller(database, &fake).tick().await.unwrap();
        let reason = "SELECT parked_reason FROM outbox_events";
        assert_eq!(database.text(reason).await.as_deref(), Some("InvalidTimestamp"));
    }

    async fn an_event_that_is_not_parked_can_be_neither_requeued_nor_discarded(service: Service) {
        sign_up(&service, "ana@example.com").await;
        let event_id = open(&service.database).pending_events(0, 1).await.unwrap().events[0]
            .event_id
            .to_string();
        for action in ["requeue", "discard"] {
            let output = outbox_command(&service.database, &[action, &event_id]).await;
            assert_eq!(output.code, Some(1), "{action}");
            let stderr = output.stderr;
            assert!(
                stderr.contains(&format!("{event_id} is not a parked event")),
                "{stderr}"
            );
        }
        assert_eq!(service.database.count(EVENTS).await, 1);
    }
}
