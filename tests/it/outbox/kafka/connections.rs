//! Brokers that limit the connections of one address.

use futures::{StreamExt as _, stream};

use crate::harness::{Backend, Cluster, EVENTS, PARKED, Process, TestDatabase, register, settings};

const TOPIC: &str = "many-partitions";

/// Each broker leads 20 partitions and grants 12 connections, a few of them to the other broker.
#[tokio::test(flavor = "multi_thread")]
async fn all_events_leave_although_there_are_more_partitions_than_connections() {
    let Some(cluster) = Cluster::start("max.connections.per.ip=12").await else {
        return;
    };
    let topic = ["--create", "--topic", TOPIC];
    let size = ["--partitions", "40", "--replication-factor", "1"];
    let arguments = [&topic[..], &size].concat();
    let class = "org.apache.kafka.tools.TopicCommand";
    cluster.tool(class, &arguments).await;
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let brokers = cluster.brokers();
    let kafka = [("KAFKA_BROKERS", brokers.as_str()), ("KAFKA_TOPIC", TOPIC)];
    let mut process = Process::serve(&database, &kafka);
    let client = process.client().await;
    // With so many users nearly every partition has events, each time.
    for round in 0..3 {
        stream::iter(0..120)
            .for_each_concurrent(8, |user| {
                let mut client = client.clone();
                let email = format!("user{user}of{round}@example.com");
                async move { drop(client.register(register(&email)).await.unwrap()) }
            })
            .await;
        database.wait_for(EVENTS, 0).await;
    }
    assert_eq!(database.count(PARKED).await, 0);
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));

    let checked = Process::run(
        &std::env::temp_dir(),
        &["check-config"],
        &settings(&database.url(), &kafka),
    )
    .await;
    let found = "ok      KAFKA_BROKERS: the topic many-partitions has 40 partitions";
    assert!(checked.stdout.contains(found), "{}", checked.stdout);
}
