//! Kafka fails in every way that its operators know. One process of the service lives
//! through all of it: registrations go on, nothing is lost, parked or out of order, and
//! the backlog drains without a restart once the fault has ended.
//!
//! That registrations do not wait for Kafka is shown by order, not by time: each is
//! answered while the fault lasts, which ends only afterwards.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use auth_service::{outbox::partition::partition, proto::auth_service_client::AuthServiceClient};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::harness::{
    Backend, Cluster, Copy, Process, Published, TestDatabase, connect, register, soak,
};

const TOPIC: &str = "user-events";
const PARTITIONS: i32 = 12;
const TWELVE: NonZeroUsize = NonZeroUsize::new(12).expect("not zero");
const PASSWORD: &str = "our-kafka-password";
const PENDING: &str = "SELECT count(*) FROM outbox_events";
const PARKED: &str = "SELECT count(*) FROM outbox_events WHERE parked_at IS NOT NULL";
/// The longest pause between two tries is 30 s, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_outlives_a_cluster_that_is_not_there_or_refuses() {
    let Some(mut scene) = Scene::open("of somebody else").await else {
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
    assert!(!topic.topic_exists().await, "the service must not make it");
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

/// Our connections stay open, and lead to a broker that has become a follower.
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

/// The others are published meanwhile.
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
    scene.wait_for(PENDING, gone).await;
    scene.cluster.restart(2).await;
    scene.drained().await;
}

/// The controller is gone too, so the dead replica stays in the set that must have a
/// record before it is acknowledged. Every try leaves one more copy, but of one record.
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
    // The first try may have sent the user's 21 events in one or two calls, of which one
    // was waiting; each later try sent one record for each of two users.
    assert!(
        duplicates <= 21 + 2 * tries,
        "{duplicates} > 21 + 2 * {tries}"
    );
}

/// A call that is throttled is sent again and again by rskafka, as fast as the quota lets it,
/// until it was not throttled or we give up after 5 s. Progress comes from calls that are
/// small enough.
async fn a_quota_is_smaller_than_a_produce_call(scene: &mut Scene) {
    const EVENTS: i64 = 12;
    const QUOTA: usize = 1200;
    let client = ("clients", "auth-service");
    let user = scene.register().await;
    scene.drained().await;
    scene.begin("a quota is smaller than a produce call");
    let before = scene.records().await.len();
    let limit = format!("producer_byte_rate={QUOTA}");
    let limit = ["--add-config", &limit];
    scene.cluster.alter(client, limit).await;
    scene.insert_events(&user, EVENTS).await;
    scene.await_fault("Kafka did not answer within").await;
    scene.register().await;
    scene.drained().await; // with the quota in place
    let tries = scene.tries();
    let new = scene.records().await.split_off(before);
    let duplicates = new.len() - 13;
    // In one call each of the two brokers takes at most its quota of the 5 s and of the 3 s of
    // its window, and what exceeds that, which is at most all events at once. Each call was a
    // failed try or had at least one event acknowledged.
    // Its headers, without the key, which makes up for their being printed here.
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
    scene.wait_for(PENDING, 4).await; // both large ones and what is behind them
    let listed = scene.outbox(&["list"]).await;
    let parked: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(parked.len(), 2, "{listed}");
    assert_eq!([parked[0][1], parked[1][1]], [&ana, &ben]);
    assert!(listed.matches("MessageTooLarge").count() == 2, "{listed}");

    let larger = ["--add-config", "max.message.bytes=4000000"];
    scene.cluster.alter(("topics", TOPIC), larger).await;
    scene.outbox(&["requeue", parked[0][0]]).await;
    scene.outbox(&["discard", parked[1][0]]).await;
    scene.discarded.push((ben, 2));
    scene.drained().await;
}

async fn set_password(cluster: &Cluster, password: &str) {
    let scram = format!("SCRAM-SHA-512=[password={password}]");
    let change = ["--add-config", &scram];
    cluster.alter(("users", "auth"), change).await;
}

/// A cluster, a service that publishes to it, and what has to arrive.
struct Scene {
    cluster: Cluster,
    database: TestDatabase,
    service: Process,
    addr: SocketAddr,
    client: AuthServiceClient<Channel>,
    registered: usize,
    /// How long the log was when the fault began.
    started: usize,
    discarded: Vec<(String, i64)>,
}

impl Scene {
    /// `None`, said aloud, if Postgres or Kafka is not at hand.
    async fn open(password_at_the_broker: &str) -> Option<Self> {
        let database = TestDatabase::create(Backend::Postgres).await?;
        // A quota is kept over 2 s instead of 10, so that being throttled takes no minutes.
        let cluster = Cluster::start("quota.window.num=3").await?;
        set_password(&cluster, password_at_the_broker).await;
        let brokers = cluster.sasl_brokers();
        let variables = [
            ("KAFKA_BROKERS", brokers.as_str()),
            ("KAFKA_TOPIC", TOPIC),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
            ("KAFKA_SASL_USERNAME", "auth"),
            ("KAFKA_SASL_PASSWORD", PASSWORD),
            ("LOG", "auth_service=debug"),
        ];
        let service = Process::serve(&database, &variables);
        let addr = service.grpc_addr().await;
        Some(Self {
            cluster,
            database,
            service,
            addr,
            client: AuthServiceClient::new(connect(addr).await),
            registered: 0,
            started: 0,
            discarded: Vec::new(),
        })
    }

    /// From here on the log tells of the next fault.
    fn begin(&mut self, name: &str) {
        eprintln!("fault: {name}");
        self.started = self.service.log().len();
    }

    /// Registers somebody, which must work; the user's id.
    async fn register(&mut self) -> String {
        self.registered += 1;
        let request = register(&format!("user{}@example.com", self.registered));
        let answer = self.client.register(request).await;
        answer
            .expect("a registration never fails")
            .into_inner()
            .user_id
    }

    /// Waits until the service has met the fault, which its log says with this text.
    async fn await_fault(&self, text: &str) {
        self.until(text, || {
            self.log()
                .iter()
                .any(|line| line.contains("cannot publish events") && line.contains(text))
        })
        .await;
    }

    /// Waits until so many tries have failed.
    async fn await_tries(&self, count: usize) {
        self.until("more tries", || self.tries() >= count).await;
    }

    /// How many tries have failed since the fault began.
    fn tries(&self) -> usize {
        let log = self.log();
        let failed = log
            .iter()
            .filter(|line| line.contains("cannot publish events"));
        failed.count()
    }

    fn log(&self) -> Vec<String> {
        self.service.log().split_off(self.started)
    }

    async fn until(&self, what: &str, mut met: impl FnMut() -> bool) {
        let waiting = async {
            while !met() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let met = timeout(PATIENCE, waiting).await.is_ok();
        assert!(met, "waited in vain for {what:?}: {:#?}", self.log());
    }

    async fn wait_for(&self, sql: &str, count: i64) {
        let waiting = async {
            while self.database.count(sql).await != count {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let met = timeout(PATIENCE, waiting).await.is_ok();
        assert!(
            met,
            "waited in vain for {count} of {sql}: {:#?}",
            self.log()
        );
    }

    /// Waits until the outbox is empty, and checks the guarantee.
    async fn drained(&self) {
        self.wait_for(PENDING, 0).await;
        let published = Published(self.records().await);
        let versions = self.database.versions().await;
        if let Err(broken) = published.check(&versions, &self.discarded) {
            panic!("{broken}");
        }
    }

    async fn records(&self) -> Vec<Copy> {
        // A client made while leaders move may look for them where they were, for ever.
        let read = async {
            loop {
                let topic = self.cluster.topic(TOPIC).await;
                if let Ok(records) = timeout(PATIENCE / 6, topic.records()).await {
                    return records;
                }
            }
        };
        let records = timeout(PATIENCE, read).await.expect("Kafka answers");
        records.into_iter().map(Copy::from).collect()
    }

    /// Makes one broker the leader of all partitions, and waits until it is.
    async fn lead_by(&self, leader: i32) {
        let replicas = [leader, 3 - leader];
        let all = [(0..PARTITIONS, &replicas[..])];
        self.cluster.reassign(TOPIC, &all).await;
        self.cluster.elect_preferred_leaders().await;
        let moving = async {
            while !self.cluster.all_led_by(TOPIC, leader).await {
                self.cluster.elect_preferred_leaders().await;
            }
        };
        timeout(PATIENCE, moving).await.expect("the leaders move");
    }

    /// Events of one user, without the service.
    async fn insert_events(&self, user: &str, count: i64) {
        self.insert(user, count, r"'\x00'").await;
    }

    async fn insert_large_event(&self, user: &str) {
        self.insert(user, 1, "decode(repeat('00', 2000000), 'hex')")
            .await;
    }

    async fn insert(&self, user: &str, count: i64, payload: &str) {
        self.database
            .execute(&format!(
                "WITH raised AS (
                     UPDATE users SET event_version = event_version + {count} WHERE id = '{user}'
                     RETURNING id, event_version
                 )
                 INSERT INTO outbox_events
                     (event_id, user_id, user_version, event_type, occurred_at, payload)
                 SELECT gen_random_uuid(), id, event_version - {count} + i, 'SESSION_ENDED', now(), {payload}
                 FROM raised, generate_series(1, {count}) i ORDER BY i"
            ))
            .await;
    }

    /// Runs `auth-service outbox`; what it printed.
    async fn outbox(&self, arguments: &[&str]) -> String {
        let url = self.database.url();
        let arguments = [&["outbox"], arguments].concat();
        let variables = [("DATABASE_URL", url.as_str())];
        let output = Process::run(&std::env::temp_dir(), &arguments, &variables).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout
    }

    /// The one process is still there, and nothing is left over.
    async fn finish(mut self) {
        assert_eq!(self.database.count(PENDING).await, 0);
        let published = Published(self.records().await);
        let duplicates = published.check(&self.database.versions().await, &self.discarded);
        let registered = self.registered;
        eprintln!(
            "{registered} registrations, {} records, {duplicates:?} duplicates",
            published.0.len()
        );
        assert_eq!(self.service.grpc_addr().await, self.addr);
        self.service.signal("TERM");
        assert_eq!(self.service.exit_code().await, Some(0));
    }
}
