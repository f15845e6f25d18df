//! The rate at which a backlog of events is published.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use auth_service::{
    app::SystemClock,
    model::{Clock as _, PendingEvent, UserId},
    outbox::{
        Metrics, Poller,
        kafka::KafkaPublisher,
        partition::partition,
        publisher::{BatchInPass, Published, Publisher},
    },
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use prometheus_client::registry::Registry;
use rskafka::{chrono::DateTime, client::partition::Compression, record::Record};
use tokio::{sync::Notify, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::Topic;
use crate::{
    Result,
    stats::{median, rate},
    table::Table,
    world::{Database, user_created},
};

const BACKLOG: usize = 100_000;
const ROUNDS: usize = 3;
/// The longest that the publication of an event may take in the mean.
const LONGEST: Duration = Duration::from_micros(1200);
const EMAIL: &str = "some.body@example.com";

pub async fn measure(table: &mut Table) -> Result<()> {
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        rates[0].push(drain(BACKLOG).await?);
        rates[1].push(rskafka_alone().await?);
    }
    let [ours, theirs] = rates.map(|rates| median(&rates));
    let name = format!("outbox drain, {BACKLOG} events");
    table.rates(&name, ours, "rskafka alone", theirs, ">= 20,000/s, >= 0.4x");
    Ok(())
}

/// The real publisher, with a count of the acknowledged events.
struct Counting {
    publisher: KafkaPublisher,
    expected: usize,
    acknowledged: AtomicUsize,
    all: Notify,
}

impl Publisher for Counting {
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        batch: BatchInPass,
        until: tokio::time::Instant,
    ) -> BoxFuture<'a, Published> {
        async move {
            let published = self.publisher.publish(events, batch, until).await;
            let count = published.acknowledged.len();
            if self.acknowledged.fetch_add(count, Ordering::Relaxed) + count >= self.expected {
                self.all.notify_one();
            }
            published
        }
        .boxed()
    }
}

/// Publishes a backlog with the real poller. Returns events per second until the last deletion.
pub async fn drain(backlog: usize) -> Result<f64> {
    let (database, db) = Database::migrated().await?;
    fill(&database, backlog).await?;
    let topic = Topic::create().await?;
    let metrics = Metrics::register(&mut Registry::default());
    let counting = Arc::new(Counting {
        publisher: KafkaPublisher::new(topic.config, metrics.produce.clone()),
        expected: backlog,
        acknowledged: AtomicUsize::new(0),
        all: Notify::new(),
    });
    let stop = CancellationToken::new();
    let publisher = Arc::clone(&counting) as Arc<dyn Publisher>;
    let clock = Arc::new(SystemClock);
    let poller = Poller::new(db, publisher, clock, Arc::default(), metrics);
    let begun = Instant::now();
    let running = tokio::spawn(poller.run(stop.clone()));
    let longest = LONGEST * u32::try_from(backlog)?;
    timeout(longest, counting.all.notified()).await?;
    // Wait for the running tick.
    stop.cancel();
    running.await?;
    let rate = rate(backlog, begun.elapsed());
    let left = database.client().await?;
    let left = left
        .query_one("SELECT count(*) FROM outbox_events", &[])
        .await?;
    if left.get::<_, i64>(0) != 0 {
        return Err("the backlog is not drained".into());
    }
    database.drop().await?;
    Ok(rate)
}

async fn fill(database: &Database, backlog: usize) -> Result<()> {
    let user_id = UserId::new(SystemClock.now());
    let payload = user_created(user_id, EMAIL)?.encode(1);
    let client = database.client().await?;
    let sql = "INSERT INTO outbox_events
        (event_id, user_id, user_version, event_type, occurred_at, payload)
        SELECT gen_random_uuid(), gen_random_uuid(), 1, 'USER_CREATED', now(), $1
        FROM generate_series(1, $2)";
    let count = i32::try_from(backlog)?;
    client.execute(sql, &[&payload, &count]).await?;
    Ok(client.batch_execute("VACUUM ANALYZE outbox_events").await?)
}

/// The baseline: records per second of rskafka without reading and deleting rows. The number
/// of partitions and the size of the calls are those of the poller.
async fn rskafka_alone() -> Result<f64> {
    /// The number of events in a produce call of the poller.
    const CALL: usize = 16;
    let topic = Topic::create().await?;
    let count = NonZeroUsize::new(topic.partitions.len()).ok_or("partitions")?;
    let mut queues = vec![Vec::new(); count.get()];
    for _ in 0..BACKLOG {
        let user = UserId::new(SystemClock.now());
        queues[partition(user.to_string().as_bytes(), count)].push(prepared(user)?);
    }
    let mut producing = JoinSet::new();
    let begun = Instant::now();
    for (client, queue) in topic.partitions.into_iter().zip(queues) {
        producing.spawn(async move {
            let mut calls = stream::iter(queue).chunks(CALL);
            while let Some(records) = calls.next().await {
                client.produce(records, Compression::NoCompression).await?;
            }
            Ok::<_, crate::Failure>(())
        });
    }
    producing
        .join_all()
        .await
        .into_iter()
        .collect::<Result<()>>()?;
    Ok(rate(BACKLOG, begun.elapsed()))
}

/// A record of the same size as an event's.
fn prepared(user: UserId) -> Result<Record> {
    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", user.to_string()),
        ("ce_source", "/realchat/auth".to_owned()),
        ("ce_type", "USER_CREATED".to_owned()),
        ("ce_time", SystemClock.now().to_string()),
        ("ce_subject", user.to_string()),
        ("ce_sequence", format!("{:020}", 1)),
        ("content-type", "application/protobuf".to_owned()),
    ];
    Ok(Record {
        key: Some(user.to_string().into_bytes()),
        value: Some(user_created(user, EMAIL)?.encode(1)),
        headers: (headers.into_iter())
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect(),
        timestamp: DateTime::default(),
    })
}
