//! A replica that kills or stops itself at an exact point of publishing. It is a test of this
//! binary, which other tests start as a process, so the service itself has no such points.

use std::{
    env,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use auth_service::{
    app::{App, SystemClock},
    config::{Args, Config},
    db::Db,
    model::PendingEvent,
    outbox::{
        Metrics, Poller,
        kafka::KafkaPublisher,
        publisher::{BatchInPass, Published, Publisher},
    },
    telemetry,
};
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::harness::{Kafka, Process, TestDatabase, settings};

/// The point at which it sends itself a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// It has the lease and has read the events. Nothing is sent.
    BeforeProduce,
    /// Kafka has the events. Their rows still exist.
    BeforeDelete,
    /// The rows are deleted, and the next events are read.
    AfterDelete,
}

const POINTS: [(&str, Point); 3] = [
    ("before-produce", Point::BeforeProduce),
    ("before-delete", Point::BeforeDelete),
    ("after-delete", Point::AfterDelete),
];

/// Starts a replica that sends itself `signal` (KILL or STOP) at `point`.
pub fn start(
    folder: &TempDir,
    database: &TestDatabase,
    kafka: &Kafka,
    point: Point,
    signal: &str,
) -> Process {
    let name = POINTS.iter().find(|(_, known)| *known == point);
    let own = [
        ("REPLICA_POINT", name.expect("all are named").0),
        ("REPLICA_SIGNAL", signal),
    ];
    let more = [&kafka.variables()[..], &own].concat();
    let url = database.url();
    let variables = settings(&url, &more);
    Process::start_test(folder.path(), "faults::replica::process", &variables)
}

/// Does nothing unless [`start`] started it.
#[tokio::test(flavor = "multi_thread")]
async fn process() {
    let Ok(point) = env::var("REPLICA_POINT") else {
        return;
    };
    let args = Args::from_argv(["auth-service".into()]).expect("valid usage");
    let Ok(mut config) = Config::load(&args, Path::new("")) else {
        panic!("a valid configuration")
    };
    telemetry::init(&config.log).expect("a log");
    let kafka = config.kafka.take().expect("brokers");
    let metrics = Metrics::register(&mut Registry::default());
    let publisher = StoppingPublisher {
        inner: KafkaPublisher::new(kafka, metrics.produce.clone()),
        point: POINTS
            .iter()
            .find(|(name, _)| *name == point)
            .expect("a point")
            .1,
        signal: match env::var("REPLICA_SIGNAL").as_deref() {
            Ok("STOP") => Signal::STOP,
            _ => Signal::KILL,
        },
        calls: AtomicU32::new(0),
    };
    let db = Db::new(
        &config.database,
        config.request_timeout / 3,
        &mut Registry::default(),
    );
    let clock = Arc::new(SystemClock);
    // This also migrates.
    let app = App::build(config, Arc::clone(&clock) as _)
        .await
        .expect("an app");
    let wake = Arc::new(Notify::new());
    let poller = Poller::new(db, Arc::new(publisher), clock, wake, metrics);
    let stop = CancellationToken::new();
    let (served, ()) = tokio::join!(app.run(stop.clone()), poller.run(stop));
    served.expect("it serves");
}

/// Publishes to Kafka, and sends a signal to this process at a point.
struct StoppingPublisher {
    inner: KafkaPublisher,
    point: Point,
    signal: Signal,
    calls: AtomicU32,
}

impl StoppingPublisher {
    /// SIGSTOP stops the threads one after the other; the sleep keeps this one from going on.
    fn send_signal(&self) {
        kill_process(getpid(), self.signal).expect("we may signal ourselves");
        thread::sleep(Duration::from_secs(2));
    }
}

impl Publisher for StoppingPublisher {
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        batch: BatchInPass,
        until: Instant,
    ) -> BoxFuture<'a, Published> {
        Box::pin(async move {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            match self.point {
                Point::BeforeProduce if call == 0 => self.send_signal(),
                Point::AfterDelete if call == 1 => self.send_signal(),
                _ => {}
            }
            let published = self.inner.publish(events, batch, until).await;
            if self.point == Point::BeforeDelete && call == 0 {
                assert_eq!(published.acknowledged.len(), events.len(), "{published:?}");
                self.send_signal();
            }
            published
        })
    }
}
