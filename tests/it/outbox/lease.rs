//! Only one of many pollers publishes.

use std::{sync::Arc, time::Duration};

use auth_service::outbox::{Metrics, Outcome, Poller};
use futures::future::join_all;
use prometheus_client::registry::Registry;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Fake, open, poller, poller_at, sign_up};
use crate::harness::{ManualClock, Process, START, Service, TestDatabase, both};

const SQLITE_NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

both! {
    async fn one_of_two_pollers_publishes_until_it_is_stopped(service: Service) {
        let fake = Arc::new(Fake::default());
        let (mut first, mut second) = (
            poller(&service.database, &fake),
            poller(&service.database, &fake),
        );
        assert_eq!(first.tick().await.unwrap(), Outcome::Idle);
        sign_up(&service, "ana@example.com").await;
        assert_eq!(second.tick().await.unwrap(), Outcome::Standby);
        assert_eq!(second.tick().await.unwrap(), Outcome::Standby);
        assert_eq!(first.tick().await.unwrap(), Outcome::Progress);

        let stopped = CancellationToken::new();
        stopped.cancel();
        first.run(stopped).await;
        assert_eq!(second.tick().await.unwrap(), Outcome::Idle);
    }

    async fn of_many_pollers_that_start_at_once_one_gets_the_lease(service: Service) {
        let fake = Arc::new(Fake::default());
        let mut pollers: Vec<_> = (0..8).map(|_| poller(&service.database, &fake)).collect();
        let outcomes = join_all(pollers.iter_mut().map(Poller::tick)).await;
        let idle = outcomes
            .into_iter()
            .filter(|outcome| matches!(outcome, Ok(Outcome::Idle)));
        assert_eq!(idle.count(), 1);
    }

    async fn an_expired_lease_is_taken_over(service: Service) {
        let fake = Arc::new(Fake::default());
        let (mut first, mut second) = (
            poller(&service.database, &fake),
            poller(&service.database, &fake),
        );
        first.tick().await.unwrap();
        assert_eq!(second.tick().await.unwrap(), Outcome::Standby);
        service.database.end_lease().await;
        assert_eq!(second.tick().await.unwrap(), Outcome::Idle);
        // The first one does not take the lease from the second when it stops.
        let stopped = CancellationToken::new();
        stopped.cancel();
        first.run(stopped).await;
        let mut third = poller(&service.database, &fake);
        assert_eq!(third.tick().await.unwrap(), Outcome::Standby);
    }

    async fn the_clock_of_the_database_decides_about_the_lease(service: Service) {
        let fake = Arc::new(Fake::default());
        let mut first = poller(&service.database, &fake);
        first.tick().await.unwrap();
        let hundred_years = Duration::from_hours(24 * 365 * 100);
        let later = START + hundred_years;
        let mut ahead = poller_at(open(&service.database), fake, later);
        assert_eq!(ahead.tick().await.unwrap(), Outcome::Standby);
        let now = service
            .database
            .dialect("CAST(unixepoch('subsec') * 1000000 AS INTEGER)", "now()");
        let until = service
            .database
            .dialect("+ 15000000", "+ interval '15 seconds'");
        let in_time = format!(
            "SELECT count(*) FROM outbox_lease WHERE expires_at > {now} AND expires_at <= {now} {until}"
        );
        assert_eq!(service.database.count(&in_time).await, 1);
    }

    async fn a_lease_that_ends_later_than_any_lease_can_is_taken_over(service: Service) {
        let fake = Arc::new(Fake::default());
        for (sqlite, postgres) in [
            ("20000000", "interval '20 seconds'"),
            ("3600000000", "interval '1 hour'"),
            ("3153600000000000", "interval '100 years'"),
        ] {
            let mut first = poller(&service.database, &fake);
            first.tick().await.unwrap();
            let later = service.database.dialect(
                &format!("UPDATE outbox_lease SET expires_at = {SQLITE_NOW} + {sqlite}"),
                &format!("UPDATE outbox_lease SET expires_at = now() + {postgres}"),
            ).to_owned();
            service.database.execute(&later).await;
            let mut second = poller(&service.database, &fake);
            assert_eq!(second.tick().await.unwrap(), Outcome::Idle, "{postgres}");
            let mut third = poller(&service.database, &fake);
            assert_eq!(third.tick().await.unwrap(), Outcome::Standby, "{postgres}");
            service.database.end_lease().await;
        }
    }

    async fn a_lease_from_the_future_is_logged(database: TestDatabase) {
        let (folder, url) = (std::env::temp_dir(), database.url());
        let migrated = Process::run(&folder, &["migrate"], &[("DATABASE_URL", &url)]).await;
        assert_eq!(migrated.code, Some(0));
        let (owner, later) = (
            database.id("0192f3a4-0000-7000-8000-000000000000"),
            database.time(START + Duration::from_hours(24 * 365 * 100)),
        );
        let sql = format!("UPDATE outbox_lease SET owner = {owner}, expires_at = {later}");
        database.execute(&sql).await;
        // There is no broker: the lease is taken before one is needed.
        let process = Process::serve(&database, &[("KAFKA_BROKERS", "127.0.0.1:1")]);
        process.wait_for("the outbox lease ended later than any lease can").await;
    }

    async fn a_running_poller_renews_its_lease_and_releases_it_at_the_end(service: Service) {
        let fake = Arc::new(Fake::default());
        let stop = CancellationToken::new();
        let running = tokio::spawn(poller(&service.database, &fake).run(stop.clone()));
        let zero = service.database.dialect("0", "'epoch'");
        service
            .database
            .wait_for(
                &format!("SELECT count(*) FROM outbox_lease WHERE expires_at > {zero}"),
                1,
            )
            .await;
        let until = service
            .database
            .text("SELECT CAST(expires_at AS TEXT) FROM outbox_lease")
            .await
            .unwrap();
        let later =
            format!("SELECT count(*) FROM outbox_lease WHERE CAST(expires_at AS TEXT) > '{until}'");
        service.database.wait_for(&later, 1).await;
        stop.cancel();
        running.await.unwrap();
        let released = format!("SELECT count(*) FROM outbox_lease WHERE expires_at = {zero}");
        assert_eq!(service.database.count(&released).await, 1);
    }

    async fn an_expired_lease_shows_although_the_database_does_not_answer(service: Service) {
        let (fake, metrics) = (Arc::new(Fake::default()), Metrics::register(&mut Registry::default()));
        let mut poller = Poller::new(
            open(&service.database),
            fake,
            Arc::new(ManualClock::new(START)),
            Arc::new(Notify::new()),
            metrics.clone(),
        );
        poller.tick().await.unwrap();
        assert_eq!(metrics.lease_held.get(), 1);
        service.database.execute("DROP TABLE outbox_lease").await;
        let ran_out = async {
            while metrics.lease_held.get() == 1 {
                let _result = poller.tick().await;
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_mins(1), ran_out).await.expect("it runs out");
        poller.tick().await.unwrap_err();
    }
}
