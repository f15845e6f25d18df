//! The running poller: what wakes it, and which faults it survives.

use std::{sync::Arc, time::Duration};

use auth_service::{
    auth::{Auth, Call, Commits, Error, Parts, Register},
    model::{Email, Traceparent, Transition},
    outbox::{Metrics, Poller, publisher::Published},
    password::{Hasher, Password, Policy},
    telemetry::audit::Context,
};
use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Fake, fault, open, poller, sign_up};
use crate::harness::{EVENTS, ManualClock, PASSWORD, START, Service, TestDatabase, both, config};

both! {
    async fn a_running_poller_goes_on_after_faults_of_publisher_and_database(service: Service) {
        sign_up(&service, "ana@example.com").await;
        service
            .database
            .execute("ALTER TABLE outbox_lease RENAME TO hidden")
            .await;
        let fake = Arc::new(Fake::default());
        fake.next(|_| Published::unreachable(fault()));
        let stop = CancellationToken::new();
        let mut poller = poller(&service.database, &fake);
        poller.tick().await.unwrap_err();
        let running = tokio::spawn(poller.run(stop.clone()));
        service
            .database
            .execute("ALTER TABLE hidden RENAME TO outbox_lease")
            .await;
        service.database.wait_for(EVENTS, 0).await;
        assert_eq!(fake.batches().len(), 2);
        stop.cancel();
        running.await.unwrap();
    }

    async fn an_idle_poller_listens_for_commits(service: Service) {
        let wake = Arc::new(Notify::new());
        let fake = Arc::new(Fake::default());
        let clock = Arc::new(ManualClock::new(START));
        let metrics = Metrics::register(&mut Registry::default());
        let poller = Poller::new(
            open(&service.database),
            fake,
            clock,
            Arc::clone(&wake),
            metrics,
        );
        let running = tokio::spawn(poller.run(CancellationToken::new()));
        // A notification stays until it is received, so the test can receive it.
        let taken = async {
            loop {
                wake.notify_one();
                tokio::task::yield_now().await;
                if wake.notified().now_or_never().is_none() {
                    break;
                }
            }
        };
        timeout(Duration::from_mins(1), taken)
            .await
            .expect("the poller takes a notification");
        running.abort();
    }

    async fn a_commit_and_nothing_else_wakes_the_poller(service: Service) {
        let commits = Arc::new(Notify::new());
        let auth = auth(&service.database, Arc::clone(&commits));
        let mut call = Call {
            deadline: Instant::now() + Duration::from_mins(1),
            traceparent: None,
            client_address: None,
            context: Context::default(),
        };
        auth.register(registration("ana@example.com"), &call)
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(commits.notified().now_or_never().is_some());
        call.traceparent =
            Traceparent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let again = auth.register(registration("ana@example.com"), &call).await;
        assert!(matches!(again, Err(Error::EmailTaken)));
        assert!(commits.notified().now_or_never().is_none());
    }
}

fn auth(database: &TestDatabase, commits: Arc<Notify>) -> Auth {
    let config = config(database, &[]);
    let registry = &mut Registry::default();
    let parts = Parts {
        transition: Transition::default(),
        db: open(database),
        hasher: Arc::new(Hasher::start(&config.passwords, registry).unwrap()),
        policy: Policy::start(&config.passwords).expect("threads"),
        clock: Arc::new(ManualClock::new(START)),
        commits: Commits {
            events: commits,
            ..Commits::default()
        },
    };
    Auth::new(config.auth, parts, registry)
}

fn registration(email: &str) -> Register {
    Register {
        email: Email::parse(email).unwrap(),
        password: Password::new(PASSWORD.to_owned().into()),
        start_session: false,
        device_name: None,
        locale: None,
    }
}
