//! The time from the commit of a registration to a Kafka consumer.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use auth_service::{
    app::SystemClock,
    db::Db,
    outbox::{Metrics, Poller, kafka::KafkaPublisher},
};
use prometheus_client::registry::Registry;
use rskafka::client::partition::PartitionClient;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Topic;
use crate::{
    Result,
    stats::percentile,
    table::{self, Table},
    world::{Database, new_user},
};

const REGISTRATIONS: u32 = 200;
const WINDOW: Duration = Duration::from_secs(15);
/// The registrations of about the first 5 s are not counted: connections are made, and the
/// broker has just started, so the JVM still compiles.
const FIRST: usize = 5 * REGISTRATIONS as usize;

/// The first arrival of each user's record.
type Arrivals = HashMap<String, Instant>;

pub async fn measure(table: &mut Table) -> Result<()> {
    let times = latencies().await?;
    let name = |p: &str| {
        format!("registrations at {REGISTRATIONS}/s, warm: commit to Kafka consumer, {p}")
    };
    let p = |share| table::time(percentile(&times, share));
    table.row(&name("p50"), &p(0.5), "15 ms Debezium, tuned", "", "< 6 ms");
    table.row(
        &name("p99"),
        &p(0.99),
        "40 ms Debezium, tuned",
        "",
        "< 20 ms",
    );
    Ok(())
}

/// Registrations at a fixed rate, without the hash, which would dominate the time. Each commit
/// wakes the poller, as in the service.
async fn latencies() -> Result<Vec<Duration>> {
    let (database, db) = Database::migrated().await?;
    let topic = Topic::create().await?;
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let metrics = Metrics::register(&mut Registry::default());
    let publisher = KafkaPublisher::new(topic.config, metrics.produce.clone());
    let poller = Poller::new(
        db.clone(),
        Arc::new(publisher),
        Arc::new(SystemClock),
        Arc::clone(&wake),
        metrics,
    );
    let running = tokio::spawn(poller.run(stop.clone()));
    let arrivals = Arc::default();
    let mut consumers = JoinSet::new();
    for partition in topic.partitions {
        consumers.spawn(consume(partition, Arc::clone(&arrivals)));
    }
    let commits = register(&db, &wake).await?;
    let arrivals = wait_for(commits.len(), &arrivals).await?;
    consumers.shutdown().await;
    stop.cancel();
    running.await?;
    database.drop().await?;
    let counted = commits.into_iter().skip(FIRST);
    // Another commit may have woken the poller before this one returned.
    let times = counted.map(|(user, commit)| arrivals[&user].saturating_duration_since(commit));
    Ok(times.collect())
}

async fn wait_for(count: usize, arrivals: &Mutex<Arrivals>) -> Result<Arrivals> {
    let all = async {
        while arrivals.lock().expect("no panic").len() < count {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), all).await?;
    Ok(mem::take(&mut *arrivals.lock().expect("no panic")))
}

async fn register(db: &Db, wake: &Arc<Notify>) -> Result<Vec<(String, Instant)>> {
    let mut pace = interval(Duration::from_secs(1) / REGISTRATIONS);
    let mut calls = JoinSet::new();
    let begun = Instant::now();
    while begun.elapsed() < WINDOW {
        pace.tick().await;
        let (db, wake) = (db.clone(), Arc::clone(wake));
        calls.spawn(async move {
            let email = format!("{}@example.com", uuid::Uuid::now_v7());
            let user = new_user(&db, &email, "x", None).await?;
            let commit = Instant::now();
            wake.notify_one();
            Ok::<_, crate::Failure>((user.to_string(), commit))
        });
    }
    calls.join_all().await.into_iter().collect()
}

/// Reads a partition without end, and notes the arrival of each user's first record.
async fn consume(partition: Arc<PartitionClient>, arrivals: Arc<Mutex<Arrivals>>) -> Result<()> {
    let mut offset = 0;
    loop {
        let (records, _) = partition.fetch_records(offset, 1..1_000_000, 500).await?;
        let now = Instant::now();
        let mut arrivals = arrivals.lock().expect("no panic");
        for record in records {
            offset = record.offset + 1;
            let key = String::from_utf8(record.record.key.ok_or("a key")?)?;
            arrivals.entry(key).or_insert(now);
        }
    }
}
