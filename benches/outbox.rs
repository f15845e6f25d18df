//! From a commit to a consumer of Kafka, and how fast a backlog goes.

use std::{
    collections::HashMap,
    env, mem,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use auth_service::{
    app::SystemClock,
    db::Db,
    model::{Clock as _, PendingEvent, UserId},
    outbox::{
        Metrics, Poller,
        kafka::{self, KafkaPublisher},
        partition::partition,
        publisher::{BatchInPass, Published, Publisher},
    },
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use prometheus_client::registry::Registry;
use rskafka::{
    chrono::DateTime,
    client::{
        Client, ClientBuilder,
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    stats::{median, percentile, rate},
    table::{self, Table},
    world::{Database, created, new_user},
};

const PARTITIONS: i32 = 12;
const BACKLOG: usize = 100_000;
const ROUNDS: usize = 3;
const REGISTRATIONS: u32 = 200;
const WINDOW: Duration = Duration::from_secs(15);
/// About those of the first 5 s do not count: connections are made, and the broker, which has
/// just started, compiles itself.
const FIRST: usize = 5 * REGISTRATIONS as usize;

/// All rows about events.
pub async fn measure(table: &mut Table) -> Result<()> {
    latency(table).await?;
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        rates[0].push(drain().await?);
        rates[1].push(rskafka_alone().await?);
    }
    let [ours, theirs] = rates.map(|rates| median(&rates));
    let name = format!("outbox drain, {BACKLOG} events");
    table.rates(&name, ours, "rskafka alone", theirs, ">= 20,000/s, >= 0.4x");
    Ok(())
}

/// A new topic, and a connection to each of its partitions.
struct Topic {
    config: kafka::Settings,
    partitions: Vec<Arc<PartitionClient>>,
}

impl Topic {
    async fn create() -> Result<Self> {
        let brokers = vec![env::var("TEST_KAFKA_BROKERS")?];
        let topic = format!("bench.{}", uuid::Uuid::now_v7().simple());
        let client = ClientBuilder::new(brokers.clone()).build().await?;
        let controller = client.controller_client()?;
        controller
            .create_topic(&topic, PARTITIONS, 1, 10_000)
            .await?;
        let mut partitions = Vec::new();
        for id in 0..PARTITIONS {
            let partition = open(&client, &topic, id).await?;
            // Waits until it has a leader that knows it.
            partition.get_offset(OffsetAt::Latest).await?;
            partitions.push(Arc::new(partition));
        }
        let config = kafka::Settings {
            brokers,
            topic,
            tls: None,
            sasl: None,
        };
        Ok(Self { config, partitions })
    }
}

async fn open(client: &Client, topic: &str, id: i32) -> Result<PartitionClient> {
    let retry = UnknownTopicHandling::Retry;
    Ok(client.partition_client(topic, id, retry).await?)
}

/// Registrations at a fixed rate, without the hash, which would be all there is to see; the
/// poller is woken by each commit as in the service.
async fn latency(table: &mut Table) -> Result<()> {
    let (database, db) = Database::migrated().await?;
    let topic = Topic::create().await?;
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let metrics = Metrics::register(&mut Registry::default());
    let produce = metrics.produce.clone();
    let publisher = Arc::new(KafkaPublisher::new(topic.config.clone(), produce));
    let poller = Poller::new(
        db.clone(),
        publisher,
        Arc::new(SystemClock),
        Arc::clone(&wake),
        metrics,
    );
    let running = tokio::spawn(poller.run(stop.clone()));
    let arrivals = Arc::new(Mutex::new(HashMap::new()));
    let mut consumers = JoinSet::new();
    for partition in &topic.partitions {
        consumers.spawn(consume(Arc::clone(partition), Arc::clone(&arrivals)));
    }
    let commits = register(&db, &wake).await?;
    let all = async {
        while arrivals.lock().expect("no panic").len() < commits.len() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), all).await?;
    consumers.shutdown().await;
    stop.cancel();
    running.await?;
    let arrivals = mem::take(&mut *arrivals.lock().expect("no panic"));
    let times: Vec<_> = commits
        .into_iter()
        .skip(FIRST)
        // The poller, woken by another commit, may be faster than the reply to this one.
        .map(|(user, commit)| arrivals[&user].saturating_duration_since(commit))
        .collect();
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
    database.drop().await
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

/// Reads a partition for ever, and notes when each user's record came first.
async fn consume(
    partition: Arc<PartitionClient>,
    arrivals: Arc<Mutex<HashMap<String, Instant>>>,
) -> Result<()> {
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

/// Counts what the real publisher gets through.
struct Counting {
    publisher: KafkaPublisher,
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
            if self.acknowledged.fetch_add(count, Ordering::Relaxed) + count >= BACKLOG {
                self.all.notify_one();
            }
            published
        }
        .boxed()
    }
}

/// Events a second of a backlog through the real poller, up to the last deletion.
async fn drain() -> Result<f64> {
    let (database, db) = Database::migrated().await?;
    fill(&database).await?;
    let topic = Topic::create().await?;
    let metrics = Metrics::register(&mut Registry::default());
    let counting = Arc::new(Counting {
        publisher: KafkaPublisher::new(topic.config, metrics.produce.clone()),
        acknowledged: AtomicUsize::new(0),
        all: Notify::new(),
    });
    let stop = CancellationToken::new();
    let publisher = Arc::clone(&counting) as Arc<dyn Publisher>;
    let clock = Arc::new(SystemClock);
    let poller = Poller::new(db, publisher, clock, Arc::default(), metrics);
    let begun = Instant::now();
    let running = tokio::spawn(poller.run(stop.clone()));
    timeout(Duration::from_mins(2), counting.all.notified()).await?;
    // Waits for the tick that runs.
    stop.cancel();
    running.await?;
    let rate = rate(BACKLOG, begun.elapsed());
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

async fn fill(database: &Database) -> Result<()> {
    let payload = created(UserId::new(SystemClock.now()), "some.body@example.com");
    let client = database.client().await?;
    let sql = "INSERT INTO outbox_events
        (event_id, user_id, user_version, event_type, occurred_at, payload)
        SELECT gen_random_uuid(), gen_random_uuid(), 1, 'USER_CREATED', now(), $1
        FROM generate_series(1, $2)";
    let count = i32::try_from(BACKLOG)?;
    client.execute(sql, &[&payload, &count]).await?;
    Ok(client.batch_execute("VACUUM ANALYZE outbox_events").await?)
}

/// Records a second that rskafka gets through if they are ready and nothing is to be read
/// or deleted: on the same partitions, in calls as large as the poller's.
async fn rskafka_alone() -> Result<f64> {
    /// What fits a frame of the poller.
    const CALL: usize = 16;
    let topic = Topic::create().await?;
    let count = NonZeroUsize::new(topic.partitions.len()).ok_or("partitions")?;
    let mut lanes = vec![Vec::new(); count.get()];
    for _ in 0..BACKLOG {
        let user = UserId::new(SystemClock.now());
        lanes[partition(user.to_string().as_bytes(), count)].push(prepared(user));
    }
    let mut producing = JoinSet::new();
    let begun = Instant::now();
    for (client, lane) in topic.partitions.into_iter().zip(lanes) {
        producing.spawn(async move {
            let mut calls = stream::iter(lane).chunks(CALL);
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

/// A record as large as an event's.
fn prepared(user: UserId) -> Record {
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
    Record {
        key: Some(user.to_string().into_bytes()),
        value: Some(created(user, "some.body@example.com")),
        headers: (headers.into_iter())
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect(),
        timestamp: DateTime::default(),
    }
}
