//! One poller: what it publishes, deletes and parks.

use std::sync::Arc;

use auth_service::{
    model::PendingEvent,
    outbox::{
        Outcome,
        publisher::{BatchInPass, Published, Publisher},
    },
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{sync::Notify, time::Instant};

use super::{Fake, created, ended, fault, insert_events, log_out, poller, sign_up};
use crate::harness::{EVENTS, PARKED, Service, both};

both! {
    async fn events_are_published_oldest_first_and_deleted_once_acknowledged(service: Service) {
        let (_, ana) = sign_up(&service, "ana@example.com").await;
        let (_, ben) = sign_up(&service, "ben@example.com").await;
        log_out(&service, &ben).await;
        log_out(&service, &ana).await;
        let fake = Arc::new(Fake::default());
        let mut poller = poller(&service.database, &fake);
        assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
        assert_eq!(fake.offered(), [created(1), created(1), ended(2), ended(2)]);
        assert_eq!(service.database.count(EVENTS).await, 0);
        assert_eq!(poller.tick().await.unwrap(), Outcome::Idle);
        assert_eq!(fake.batches().len(), 1);
    }

    async fn a_fault_of_the_environment_loses_and_parks_nothing(service: Service) {
        sign_up(&service, "ana@example.com").await;
        let fake = Arc::new(Fake::default());
        let mut poller = poller(&service.database, &fake);
        for _ in 0..3 {
            fake.next(|_| Published::unreachable(fault()));
            poller.tick().await.unwrap_err();
            assert_eq!(service.database.count(EVENTS).await, 1);
            assert_eq!(service.database.count(PARKED).await, 0);
        }
        assert_eq!(poller.tick().await.unwrap(), Outcome::Progress);
        assert_eq!(service.database.count(EVENTS).await, 0);
        let copies: Vec<_> = fake
            .batches()
            .into_iter()
            .flatten()
            .map(|event| (event.id, event.event_id, event.occurred_at, event.payload))
            .collect();
        assert_eq!(copies.len(), 4);
        assert!(copies.iter().all(|copy| *copy == copies[0]));
    }

    async fn acknowledged_events_are_deleted_although_there_was_a_fault(service: Service) {
        sign_up(&service, "ana@example.com").await;
        sign_up(&service, "ben@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            acknowledged: vec![events[0].id],
            fault: Some(fault()),
            ..Published::default()
        });
        let mut poller = poller(&service.database, &fake);
        poller.tick().await.unwrap_err();
        assert_eq!(service.database.count(EVENTS).await, 1);
        poller.tick().await.unwrap();
        let batches = fake.batches();
        assert_eq!(batches[1].len(), 1);
        assert_eq!(batches[1][0].event_id, batches[0][1].event_id);
    }

    async fn refused_events_are_parked_although_there_was_a_fault(service: Service) {
        sign_up(&service, "ana@example.com").await;
        sign_up(&service, "ben@example.com").await;
        let fake = Arc::new(Fake::default());
        fake.next(|events| Published {
            refused: vec![(events[0].id, "too large".to_owned())],
            fault: Some(fault()),
            ..Published::default()
        });
        poller(&service.database, &fake).tick().await.unwrap_err();
        assert_eq!(service.database.count(EVENTS).await, 2);
        assert_eq!(service.database.count(PARKED).await, 1);
    }

    async fn a_backlog_is_read_in_batches_until_it_is_gone(service: Service) {
        insert_events(&service.database, 1_001).await;
        let fake = Arc::new(Fake::default());
        let mut poller = poller(&service.database, &fake);
        while poller.tick().await.unwrap() == Outcome::Progress {}
        let batches = fake.batches();
        assert!(batches.len() > 1);
        let ids: Vec<_> = batches.iter().flatten().map(|event| event.id).collect();
        assert_eq!(ids.len(), 1_001);
        assert!(ids.is_sorted());
        assert_eq!(service.database.count(EVENTS).await, 0);
    }

    async fn an_event_is_published_again_if_the_poller_dies_before_it_is_deleted(service: Service) {
        /// Sends everything and never answers.
        #[derive(Default)]
        struct LostReply(Fake, Notify);
        impl Publisher for LostReply {
            fn publish<'a>(
                &'a self,
                events: &'a [PendingEvent],
                batch: BatchInPass,
                until: Instant,
            ) -> BoxFuture<'a, Published> {
                async move {
                    self.0.publish(events, batch, until).await;
                    self.1.notify_one();
                    std::future::pending().await
                }
                .boxed()
            }
        }

        sign_up(&service, "ana@example.com").await;
        let lost = Arc::new(LostReply::default());
        let mut dying = poller(&service.database, &lost);
        tokio::select! {
            _ = dying.tick() => panic!("the publisher never answers"),
            () = lost.1.notified() => drop(dying),
        }
        let idle_in_transaction = service.database.dialect(
            "SELECT 0",
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
        );
        assert_eq!(service.database.count(idle_in_transaction).await, 0);
        assert_eq!(service.database.count(EVENTS).await, 1);

        service.database.end_lease().await;
        let fake = Arc::new(Fake::default());
        poller(&service.database, &fake).tick().await.unwrap();
        let copy = |fake: &Fake| {
            fake.batches()[0]
                .iter()
                .map(|event| (event.event_id, event.user_version, event.payload.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(copy(&fake), copy(&lost.0));
        assert_eq!(service.database.count(EVENTS).await, 0);
    }
}
