//! Kafka fails in each way that its operators know, while one process of the service keeps running.
//! Registrations go on, no event is lost, parked or out of order, and the outbox drains without a
//! restart as soon as the fault has ended.
//!
//! That registrations do not wait for Kafka is shown by order, not by time: each is answered while
//! the fault still lasts.

mod scene;

use std::{num::NonZeroUsize, time::Duration};

use auth_service::outbox::partition::partition;

use self::scene::{Scene, set_password};
use crate::harness::{EVENTS, PARKED, soak};

const TOPIC: &str = "user-events";
const PARTITIONS: i32 = 12;
const TWELVE: NonZeroUsize = NonZeroUsize::new(12).expect("not zero");
const PASSWORD: &str = "our-kafka-password";

/// The longest pause between two tries is 30 s, and the machine is busy with other tests.
const TIMEOUT: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_outlives_a_cluster_that_is_not_there_or_refuses() {
    let Some(mut scene) = Scene::open("another-password").await else {
        return;
    };
    a_wrong_password_is_corrected_at_the_broker(&mut scene).await;
    a_missing_topic_is_created(&mut scene).await;
    for _ in 0..soak(1, 10) {
        all_brokers_freeze(&mut scene).await;
        all_brokers_are_killed(&mut scene).await;
        a_broker_restarts_in_order(&mut scene).await;
    }
    a_record_is_too_large(&mut scene).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_outlives_a_cluster_that_is_only_half_alive() {
    let Some(mut scene) = Scene::open(PASSWORD).await else {
        return;
    };
    a_missing_topic_is_created(&mut scene).await;
    for _ in 0..soak(1, 10) {
        leaders_move_by_election(&mut scene).await;
        the_leader_dies_and_a_replica_takes_over(&mut scene).await;
        a_leader_without_its_replica_stores_but_cannot_acknowledge(&mut scene).await;
        half_of_the_partitions_have_no_leader(&mut scene).await;
        a_quota_is_smaller_than_a_produce_call(&mut scene).await;
    }
    scene.finish().await;
}

async fn a_wrong_password_is_corrected_at_the_broker(scene: &mut Scene) {
    scene.register().await;
    scene.await_fault("Sasl").await;
    scene.register().await;
    set_password(&scene.cluster, PASSWORD).await;
    scene
        .await_fault(&format!("the topic {TOPIC} does not exist"))
        .await;
}

async fn a_missing_topic_is_created(scene: &mut Scene) {
    scene.register().await;
    let topic = scene.cluster.topic(TOPIC).await;
    assert!(
        !topic.topic_exists().await,
        "the service must not create it"
    );
    topic.create_topic_with(2).await;
    scene.drained().await;
}

async fn all_brokers_freeze(scene: &mut Scene) {
    scene.begin("all brokers freeze");
    scene.cluster.freeze(1);
    scene.cluster.freeze(2);
    scene.register().await;
    scene.await_fault("Kafka did not answer within").await;
    scene.register().await;
    scene.cluster.thaw(1);
    scene.cluster.thaw(2);
    scene.drained().await;
}

async fn all_brokers_are_killed(scene: &mut Scene) {
    scene.begin("all brokers are killed");
    scene.cluster.kill(1);
    scene.cluster.kill(2);
    scene.register().await;
    scene.await_fault("").await;
    scene.register().await;
    scene.cluster.restart(1).await;
    scene.cluster.restart(2).await;
    scene.drained().await;
}

async fn a_broker_restarts_in_order(scene: &mut Scene) {
    scene.begin("a broker restarts in order");
    scene.cluster.stop(2).await;
    scene.register().await;
    scene.drained().await;
    scene.cluster.restart(2).await;
    scene.register().await;
    scene.drained().await;
}

/// The connections of the service stay open, but their broker is now a follower.
async fn leaders_move_by_election(scene: &mut Scene) {
    for leader in [2, 1] {
        scene.begin("leaders move by election");
        scene.lead_by(leader).await;
        scene.register().await;
        scene.register().await;
        scene.drained().await;
    }
}

async fn the_leader_dies_and_a_replica_takes_over(scene: &mut Scene) {
    scene.lead_by(2).await;
    scene.register().await;
    scene.drained().await;
    scene.begin("the leader dies and a replica takes over");
    scene.cluster.kill(2);
    scene.register().await;
    scene.await_fault("").await;
    scene.register().await;
    scene.drained().await;
    scene.cluster.restart(2).await;
}

/// The events of the other partitions are published meanwhile.
async fn half_of_the_partitions_have_no_leader(scene: &mut Scene) {
    let of_one = [(0..6, &[1][..]), (6..PARTITIONS, &[2])];
    scene.cluster.reassign(TOPIC, &of_one).await;
    scene.begin("half of the partitions have no leader");
    scene.cluster.kill(2);
    let (mut here, mut gone) = (0, 0);
    while here < 2 || gone < 2 {
        let user = scene.register().await;
        match partition(user.as_bytes(), TWELVE) {
            0..6 => here += 1,
            _ => gone += 1,
        }
    }
    scene.await_fault("").await;
    scene.wait_for(EVENTS, gone).await;
    scene.cluster.restart(2).await;
    scene.drained().await;
}

/// The controller is frozen too, so the frozen replica stays in the set that must have a record
/// before it is acknowledged. Each try leaves one more copy, but only of one record.
async fn a_leader_without_its_replica_stores_but_cannot_acknowledge(scene: &mut Scene) {
    scene.lead_by(2).await;
    scene.register().await;
    scene.drained().await;
    scene.begin("a leader without its replica stores but cannot acknowledge");
    let before = scene.records().await.len();
    scene.cluster.freeze(1);
    let user = scene.register().await;
    scene.insert_events(&user, 20).await;
    scene.await_tries(4).await;
    scene.register().await;
    scene.cluster.thaw(1);
    scene.drained().await;
    let tries = scene.tries();
    let new = scene.records().await.len() - before;
    let duplicates = new - 22;
    eprintln!("half-dead: {duplicates} duplicates of 22 events after {tries} failed tries");
    // The first try sent the 21 events of the user in one or two calls. Each later try sent one
    // record for each of two users.
    assert!(
        duplicates <= 21 + 2 * tries,
        "{duplicates} > 21 + 2 * {tries}"
    );
}

/// rskafka sends a throttled call again and again, as fast as the quota allows, until it is not
/// throttled or the service gives up after 5 s. Only small enough calls make progress.
async fn a_quota_is_smaller_than_a_produce_call(scene: &mut Scene) {
    const COUNT: i64 = 12;
    const QUOTA: usize = 1200;
    let client = ("clients", "auth-service");
    let user = scene.register().await;
    scene.drained().await;
    scene.begin("a quota is smaller than a produce call");
    let before = scene.records().await.len();
    let limit = format!("producer_byte_rate={QUOTA}");
    let limit = ["--add-config", &limit];
    scene.cluster.alter(client, limit).await;
    scene.insert_events(&user, COUNT).await;
    scene.await_fault("Kafka did not answer within").await;
    scene.register().await;
    scene.drained().await; // with the quota in place
    let tries = scene.tries();
    let new = scene.records().await.split_off(before);
    let duplicates = new.len() - 13;
    // In one call each of the two brokers takes at most its quota for the 5 s and for the 3 s of
    // its window, and the records above that, at most all at once. Each call was a failed try or
    // had at least one event acknowledged.
    // The smallest record: its content has the headers as longer text, but not the key.
    let smallest = new.iter().map(|copy| copy.content.len());
    let smallest = smallest.min().expect("some");
    let bound = (tries + 13) * 2 * (13 + (5 + 3) * QUOTA / smallest);
    eprintln!(
        "quota: {duplicates} duplicates of 13 events after {tries} failed tries, \
         at most {bound} with records of {smallest} bytes"
    );
    assert!(duplicates > 0, "nothing was throttled");
    assert!(duplicates <= bound, "{duplicates} > {bound}");
    let no_limit = ["--delete-config", "producer_byte_rate"];
    scene.cluster.alter(client, no_limit).await;
}

async fn a_record_is_too_large(scene: &mut Scene) {
    scene.begin("a record is too large");
    let (ana, ben) = (scene.register().await, scene.register().await);
    scene.drained().await;
    for user in [&ana, &ben] {
        scene.insert_large_event(user).await;
        scene.insert_events(user, 1).await;
    }
    let other = scene.register().await;
    scene.insert_events(&other, 1).await;
    scene.wait_for(PARKED, 2).await;
    scene.wait_for(EVENTS, 4).await; // both large ones and the ones behind them
    let listed = scene.outbox(&["list"]).await;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    // Their partitions may belong to different brokers, so either may be parked first.
    let parked_of = |user: &str| {
        let mut lines = listed
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        let line = lines.find(|line| line[1] == user);
        line.unwrap_or_else(|| panic!("no {user} in {listed}"))[0]
    };
    let [of_ana, of_ben] = [parked_of(&ana), parked_of(&ben)];
    assert!(listed.matches("MessageTooLarge").count() == 2, "{listed}");

    let larger = ["--add-config", "max.message.bytes=4000000"];
    scene.cluster.alter(("topics", TOPIC), larger).await;
    scene.outbox(&["requeue", of_ana]).await;
    scene.outbox(&["discard", of_ben]).await;
    scene.discarded.push((ben, 2));
    scene.drained().await;
}
