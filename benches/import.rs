//! The import of users with hashes, and what a user who refreshes notices of it.

use std::time::{Duration, Instant};

use auth_service::{
    db::Db,
    proto::{ImportResult, ImportStatus, ImportUser, admin_service_client::AdminServiceClient},
};
use futures::stream;
use prometheus_client::registry::Registry;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::{Request, Streaming, transport::Channel};

use crate::{
    Result, footprint,
    load::Client as _,
    outbox::Topic,
    refresh::{self, Refresher},
    stats::{percentile, rate},
    table::{self, Table},
    world::{Database, Service, config},
};

const USERS: usize = 100_000;
/// Each user has a salt of its own, but the import does not compare them.
const HASH: &str = "$2a$12$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
const TOKEN: &str = "a-token-of-the-importer-of-the-benches";
/// Between two refreshes of the user, who is idle most of the time.
const PACE: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_secs(3);
/// For the events after the last row.
const LONGEST: Duration = Duration::from_mins(2);

pub async fn measure(table: &mut Table) -> Result<()> {
    let (database, db) = Database::migrated().await?;
    on(table, "Postgres", &database.url, &db).await?;
    drop(db);
    database.drop().await?;

    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("bench.db").display());
    let settings = config(&url, &[])?.database;
    let db = Db::new(&settings, Duration::from_secs(30), &mut Registry::default());
    db.migrate().await?;
    on(table, "SQLite", &url, &db).await?;
    db.close().await;
    Ok(())
}

async fn on(table: &mut Table, database: &str, url: &str, db: &Db) -> Result<()> {
    let topic = Topic::create().await?;
    let service = start(url, &topic).await?;
    let mut user = refresh::clients(&service, db, 1).await?.remove(0);
    let idle = latencies(&mut user, sleep(IDLE)).await?.1;
    let importing = tokio::spawn(import(service.connect().await?));
    let (imported, busy) = latencies(&mut user, importing).await?;
    let imported = imported??;
    let in_kafka = time_to_kafka(&topic).await?;
    let idle = [idle, latencies(&mut user, sleep(IDLE)).await?.1].concat();

    let name = format!("import of {USERS} users with hashes, {database}");
    let per_second = table::rate(rate(USERS, imported));
    table.row(&name, &per_second, "", "", ">= 5,000/s");
    let peak = footprint::megabytes(service.peak()?);
    table.row("the same: peak memory", &peak, "", "", "< 64 MB");
    let name = "the same: last row to all events in Kafka";
    table.row(name, &table::time(in_kafka), "", "", "<= 30 s");
    let [idle, busy] = [idle, busy].map(|times| percentile(&times, 0.5));
    let name = "the same: Refresh p50 of one user";
    table.times(name, busy, "idle", idle, "<= 2x");
    Ok(())
}

async fn start(url: &str, topic: &Topic) -> Result<Service> {
    let tokens = format!("importer:{TOKEN}");
    let variables = [
        ("INTERNAL_TOKENS", &*tokens),
        ("INTERNAL_SCOPES", "importer=import"),
        ("KAFKA_BROKERS", &topic.config.brokers.join(",")),
        ("KAFKA_TOPIC", &topic.config.topic),
    ];
    Service::start(url, &variables).await
}

/// The latencies of a user who refreshes until `end`.
async fn latencies<T>(
    user: &mut Refresher,
    end: impl Future<Output = T>,
) -> Result<(T, Vec<Duration>)> {
    let mut end = std::pin::pin!(end);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut latencies = Vec::new();
    loop {
        tokio::select! {
            ended = &mut end => return Ok((ended, latencies)),
            // A refresh that is cut off would lose its token.
            _ = pace.tick() => {}
        }
        let begun = Instant::now();
        user.call().await?;
        latencies.push(begun.elapsed());
    }
}

/// Imports all users in one stream. Returns the time until the last result.
async fn import(channel: Channel) -> Result<Duration> {
    let row = |n| ImportUser {
        email: format!("user-{n}@example.com"),
        password_hash: HASH.to_owned(),
        ..ImportUser::default()
    };
    let mut rows = Request::new(stream::iter((0..USERS).map(row)));
    let authorization = format!("Bearer {TOKEN}").parse()?;
    rows.metadata_mut().insert("authorization", authorization);
    let begun = Instant::now();
    let results = AdminServiceClient::new(channel).import_users(rows).await?;
    let created = created(results.into_inner()).await?;
    if created != USERS {
        return Err(format!("{created} users were created").into());
    }
    Ok(begun.elapsed())
}

async fn created(mut results: Streaming<ImportResult>) -> Result<usize> {
    let mut created = 0;
    while let Some(result) = results.message().await? {
        created += usize::from(result.status() == ImportStatus::Created);
    }
    Ok(created)
}

async fn time_to_kafka(topic: &Topic) -> Result<Duration> {
    let begun = Instant::now();
    let all = async {
        while topic.records().await? < USERS {
            sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, crate::Failure>(begun.elapsed())
    };
    timeout(LONGEST, all).await?
}
