//! A cluster, a service that publishes to it, and the records that must arrive.

use std::{net::SocketAddr, time::Duration};

use auth_service::proto::auth_service_client::AuthServiceClient;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::{PARTITIONS, PASSWORD, TIMEOUT, TOPIC};
use crate::harness::{
    Backend, Cluster, Copy, EVENTS, Process, Published, TestDatabase, connect, register,
};

pub async fn set_password(cluster: &Cluster, password: &str) {
    let scram = format!("SCRAM-SHA-512=[password={password}]");
    let change = ["--add-config", &scram];
    cluster.alter(("users", "auth"), change).await;
}

pub struct Scene {
    pub cluster: Cluster,
    database: TestDatabase,
    service: Process,
    addr: SocketAddr,
    client: AuthServiceClient<Channel>,
    registered: usize,
    /// The length of the log when the fault began.
    started: usize,
    pub discarded: Vec<(String, i64)>,
}

impl Scene {
    /// `None` without Postgres or Kafka; then the test was skipped.
    pub async fn open(password_at_the_broker: &str) -> Option<Self> {
        let database = TestDatabase::create(Backend::Postgres).await?;
        // The broker measures a quota over 2 s instead of 10, so throttling does not take minutes.
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

    /// The next fault begins: earlier lines of the log no longer count.
    pub fn begin(&mut self, name: &str) {
        eprintln!("fault: {name}");
        self.started = self.service.log().len();
    }

    /// Registers a user, which must work. Returns the id.
    pub async fn register(&mut self) -> String {
        self.registered += 1;
        let request = register(&format!("user{}@example.com", self.registered));
        let answer = self.client.register(request).await;
        answer
            .expect("a registration never fails")
            .into_inner()
            .user_id
    }

    /// Waits until the log reports the fault with this text.
    pub async fn await_fault(&self, text: &str) {
        self.until(text, || {
            self.log()
                .iter()
                .any(|line| line.contains("cannot publish events") && line.contains(text))
        })
        .await;
    }

    /// Waits until this many tries have failed.
    pub async fn await_tries(&self, count: usize) {
        self.until("more tries", || self.tries() >= count).await;
    }

    /// How many tries have failed since the fault began.
    pub fn tries(&self) -> usize {
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
        let met = timeout(TIMEOUT, waiting).await.is_ok();
        assert!(met, "{what:?} did not come: {:#?}", self.log());
    }

    pub async fn wait_for(&self, sql: &str, count: i64) {
        let waiting = async {
            while self.database.count(sql).await != count {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let met = timeout(TIMEOUT, waiting).await.is_ok();
        assert!(met, "{sql} is not {count}: {:#?}", self.log());
    }

    /// Waits until the outbox is empty, and checks the guarantee.
    pub async fn drained(&self) {
        self.wait_for(EVENTS, 0).await;
        let published = Published(self.records().await);
        let versions = self.database.versions().await;
        if let Err(broken) = published.check(&versions, &self.discarded) {
            panic!("{broken}");
        }
    }

    pub async fn records(&self) -> Vec<Copy> {
        // A client that was made while leaders move may look for them in the wrong place for ever.
        let read = async {
            loop {
                let topic = self.cluster.topic(TOPIC).await;
                if let Ok(records) = timeout(TIMEOUT / 6, topic.records()).await {
                    return records;
                }
            }
        };
        let records = timeout(TIMEOUT, read).await.expect("Kafka answers");
        records.into_iter().map(Copy::from).collect()
    }

    /// Makes one broker the leader of all partitions, and waits until it is.
    pub async fn lead_by(&self, leader: i32) {
        let replicas = [leader, 3 - leader];
        let all = [(0..PARTITIONS, &replicas[..])];
        self.cluster.reassign(TOPIC, &all).await;
        self.cluster.elect_preferred_leaders().await;
        let moving = async {
            while !self.cluster.all_led_by(TOPIC, leader).await {
                self.cluster.elect_preferred_leaders().await;
            }
        };
        timeout(TIMEOUT, moving).await.expect("the leaders move");
    }

    /// Inserts events of one user directly.
    pub async fn insert_events(&self, user: &str, count: i64) {
        self.insert(user, count, r"'\x00'").await;
    }

    pub async fn insert_large_event(&self, user: &str) {
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

    /// Runs `auth-service outbox`. Returns what it printed.
    pub async fn outbox(&self, arguments: &[&str]) -> String {
        let url = self.database.url();
        let arguments = [&["outbox"], arguments].concat();
        let variables = [("DATABASE_URL", url.as_str())];
        let output = Process::run(&std::env::temp_dir(), &arguments, &variables).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout
    }

    /// The process never restarted, and no event is left.
    pub async fn finish(mut self) {
        assert_eq!(self.database.count(EVENTS).await, 0);
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
