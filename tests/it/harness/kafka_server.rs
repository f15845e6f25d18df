//! A Kafka of the test's own: two brokers that the test freezes, kills and changes with Kafka's
//! own tools. (Many tests share the broker of `tests/run`.)

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{Kafka, process::send_signal, skip};

const JVM_FLAGS: [&str; 2] = ["-XX:-UsePerfData", "-XX:TieredStopAtLevel=1"];
/// A JVM needs this long on a machine that is busy with other tests.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Two brokers. The first is also the controller. They end with the test.
pub struct Cluster {
    folder: TempDir,
    jars: PathBuf,
    brokers: [Broker; 2],
}

struct Broker {
    plaintext: u16,
    sasl: u16,
    running: Option<Child>,
}

impl Cluster {
    /// Starts both brokers with further lines in their `server.properties`. `None` without Kafka's
    /// jars; then the test was skipped.
    pub async fn start(settings: &str) -> Option<Self> {
        let Some(jars) = env::var_os("TEST_KAFKA_HOME") else {
            skip("no Kafka of the test's own: TEST_KAFKA_HOME is not set");
            return None;
        };
        for attempt in 1.. {
            let mut cluster = Self {
                folder: tempfile::tempdir().expect("a temporary folder"),
                jars: jars.clone().into(),
                brokers: [Broker::new(), Broker::new()],
            };
            cluster.write_properties(settings);
            if cluster.boot().await {
                return Some(cluster);
            }
            let taken = (1..=2).any(|id| cluster.log(id).contains("Address already in use"));
            assert!(
                taken && attempt < 3,
                "Kafka does not start: {}",
                cluster.log(1)
            );
        }
        unreachable!("the third attempt returns or fails")
    }

    /// For `KAFKA_BROKERS`, with SASL (SCRAM-SHA-512).
    pub fn sasl_brokers(&self) -> String {
        self.brokers
            .each_ref()
            .map(|broker| format!("127.0.0.1:{}", broker.sasl))
            .join(",")
    }

    /// For `KAFKA_BROKERS`, without SASL.
    pub fn brokers(&self) -> String {
        self.brokers
            .each_ref()
            .map(|broker| format!("127.0.0.1:{}", broker.plaintext))
            .join(",")
    }

    /// A new client for a topic. It knows the present leaders.
    pub async fn topic(&self, name: &str) -> Kafka {
        Kafka::at(&self.brokers(), name).await
    }

    /// Stops the process of a broker. Its connections stay open.
    pub fn freeze(&self, id: usize) {
        self.signal(id, "STOP");
    }

    /// Continues a frozen broker.
    pub fn thaw(&self, id: usize) {
        self.signal(id, "CONT");
    }

    pub fn kill(&mut self, id: usize) {
        let mut child = self.brokers[id - 1].running.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    /// Stops a broker in order: it hands its partitions over first.
    pub async fn stop(&mut self, id: usize) {
        self.signal(id, "TERM");
        let mut child = self.brokers[id - 1].running.take().expect("it runs");
        let ended = async {
            while child.try_wait().expect("it can be waited for").is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(TIMEOUT, ended).await.expect("it stops");
    }

    /// Starts a broker again with its old data and ports.
    pub async fn restart(&mut self, id: usize) {
        self.launch(id);
        assert!(self.ready(id).await, "it starts again: {}", self.log(id));
    }

    /// Runs one of Kafka's own tools against the cluster. Returns what it printed.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(self.java());
        command
            .args([class, "--bootstrap-server", &self.brokers()])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(TIMEOUT, command.output())
            .await
            .expect("the tool ends")
            .expect("Java runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{class} {arguments:?}: {printed}{log}"
        );
        printed
    }

    /// Changes the configuration of an entity (type and name) by an option of `kafka-configs`.
    pub async fn alter(&self, (kind, name): (&str, &str), change: [&str; 2]) {
        let entity = ["--alter", "--entity-type", kind, "--entity-name", name];
        let arguments = [&entity[..], &change].concat();
        self.tool("kafka.admin.ConfigCommand", &arguments).await;
    }

    /// Whether this broker leads all partitions of a topic.
    pub async fn all_led_by(&self, topic: &str, leader: i32) -> bool {
        let class = "org.apache.kafka.tools.TopicCommand";
        let described = self.tool(class, &["--describe", "--topic", topic]).await;
        let mut partitions = described.lines().filter(|line| line.contains("Leader: "));
        partitions.all(|line| line.contains(&format!("Leader: {leader}\t")))
    }

    /// Moves ranges of a topic's partitions to other replicas, and waits for the end of the move.
    /// The first replica is the one to lead.
    pub async fn reassign(&self, topic: &str, moves: &[(Range<i32>, &[i32])]) {
        let partitions = moves
            .iter()
            .flat_map(|(partitions, replicas)| partitions.clone().map(move |id| (id, replicas)))
            .map(|(id, replicas)| {
                format!(r#"{{"topic":"{topic}","partition":{id},"replicas":{replicas:?}}}"#)
            })
            .collect::<Vec<_>>()
            .join(",");
        let file = self.folder.path().join("reassignment.json");
        fs::write(
            &file,
            format!(r#"{{"version":1,"partitions":[{partitions}]}}"#),
        )
        .expect("written");
        let file = file.to_str().expect("UTF-8");
        let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        let plan = ["--reassignment-json-file", file];
        self.tool(class, &[&["--execute"], &plan[..]].concat())
            .await;
        let moving = async {
            let verify = [&["--verify"], &plan[..]].concat();
            while self
                .tool(class, &verify)
                .await
                .contains("still in progress")
            {}
        };
        timeout(TIMEOUT, moving).await.expect("the partitions move");
    }

    /// Makes the first replica of each partition its leader.
    pub async fn elect_preferred_leaders(&self) {
        self.tool(
            "org.apache.kafka.tools.LeaderElectionCommand",
            &["--election-type", "PREFERRED", "--all-topic-partitions"],
        )
        .await;
    }

    fn write_properties(&self, settings: &str) {
        let controller = free_port();
        for (index, broker) in self.brokers.iter().enumerate() {
            let id = index + 1;
            let (roles, own_listener) = match id {
                1 => (
                    "broker,controller",
                    format!(",CONTROLLER://127.0.0.1:{controller}"),
                ),
                _ => ("broker", String::new()),
            };
            let (plaintext, sasl) = (broker.plaintext, broker.sasl);
            let data = self.folder.path().join(format!("data{id}"));
            let data = data.display();
            let properties = format!(
                "process.roles={roles}\n\
                 node.id={id}\n\
                 controller.quorum.voters=1@127.0.0.1:{controller}\n\
                 controller.listener.names=CONTROLLER\n\
                 listeners=PLAINTEXT://127.0.0.1:{plaintext},SASL_PLAINTEXT://127.0.0.1:{sasl}{own_listener}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{plaintext},SASL_PLAINTEXT://127.0.0.1:{sasl}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                 inter.broker.listener.name=PLAINTEXT\n\
                 sasl.enabled.mechanisms=SCRAM-SHA-512\n\
                 listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
                 log.dirs={data}\n\
                 auto.create.topics.enable=false\n\
                 auto.leader.rebalance.enable=false\n\
                 controlled.shutdown.enable=true\n\
                 offsets.topic.replication.factor=1\n\
                 broker.session.timeout.ms=3000\n\
                 broker.heartbeat.interval.ms=500\n\
                 {settings}\n"
            );
            fs::write(self.properties(id), properties).expect("written");
        }
    }

    async fn boot(&mut self) -> bool {
        for id in 1..=2 {
            let mut format = tokio::process::Command::from(self.java());
            format
                .args(["kafka.tools.StorageTool", "format"])
                .args(["--cluster-id", "AuthServiceTestsCluster"])
                .arg("--config")
                .arg(self.properties(id))
                .stdin(Stdio::null())
                .kill_on_drop(true);
            let output = format.output().await.expect("Java runs");
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "Kafka's storage cannot be formatted: {log}"
            );
            self.launch(id);
        }
        self.ready(1).await && self.ready(2).await
    }

    fn launch(&mut self, id: usize) {
        let log = File::create(self.log_file(id)).expect("a log file");
        let java = self.java();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(self.properties(id))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("setpriv and Java run");
        self.brokers[id - 1].running = Some(child);
    }

    async fn ready(&mut self, id: usize) -> bool {
        let started = async {
            while !self.log(id).contains("Kafka Server started") {
                let child = self.brokers[id - 1].running.as_mut().expect("it runs");
                if child.try_wait().expect("it can be waited for").is_some() {
                    return false;
                }
                sleep(Duration::from_millis(50)).await;
            }
            true
        };
        timeout(TIMEOUT, started).await.unwrap_or(false)
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        let temporary = format!("-Djava.io.tmpdir={}", self.folder.path().display());
        command
            .args(JVM_FLAGS)
            .args(["-Xmx320m", &temporary])
            .arg("-cp")
            .arg(self.jars.join("*"));
        command
    }

    fn signal(&self, id: usize, name: &str) {
        let child = self.brokers[id - 1].running.as_ref().expect("it runs");
        assert!(send_signal(child.id(), name));
    }

    fn properties(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("broker{id}.properties"))
    }

    fn log_file(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("broker{id}.log"))
    }

    fn log(&self, id: usize) -> String {
        let read = |file: &Path| fs::read(file).unwrap_or_default();
        String::from_utf8_lossy(&read(&self.log_file(id))).into_owned()
    }
}

impl Broker {
    fn new() -> Self {
        Self {
            plaintext: free_port(),
            sasl: free_port(),
            running: None,
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            child.kill().ok(); // also works on a frozen one
            child.wait().ok();
        }
    }
}

/// A free port, below those that the kernel uses for outgoing connections, and apart from those of
/// `tests/run`.
fn free_port() -> u16 {
    loop {
        let random = getrandom::u32().expect("the OS has randomness") % 6_000;
        let port = 10_000 + u16::try_from(random).expect("below 6,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
