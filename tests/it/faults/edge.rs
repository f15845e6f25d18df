//! Replicas, edges and the database are killed under traffic. Clients that know the truth ask each
//! edge about each token all the time: no edge admits a token again that it has refused, refuses a
//! token of a session that lives, or admits one for long whose session has ended.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use auth_service::proto::{TokenPair, auth_service_client::AuthServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::harness::{
    GATEWAY, INTERNAL_TOKEN, PostgresServer, Process, Random, eventually, free_port, login, logout,
    register, settings, soak,
};

const ANA: &str = "ana@example.com";
const SESSIONS: usize = 60;
/// After a fault, an edge may be silent for 10 s, and a service that starts takes a while.
const LONGEST_ADMITTED: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Lives,
    /// A logout is on its way.
    Ends,
    Ended(Instant),
}

/// The truth about all sessions.
struct Truth {
    tokens: Vec<TokenPair>,
    sessions: Mutex<Vec<Session>>,
}

impl Truth {
    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().expect("no panic")
    }

    fn set(&self, index: usize, session: Session) {
        self.sessions()[index] = session;
    }
}

/// The processes, at addresses that stay the same.
struct World {
    database: PostgresServer,
    replicas: [(Process, u16); 2],
    edges: [(Process, u16); 2],
    /// How often each edge was killed and started again, each counted: odd while there is none.
    changes: [Arc<AtomicUsize>; 2],
}

fn replica(database: &str, port: u16) -> Process {
    let addr = format!("127.0.0.1:{port}");
    let more = [&GATEWAY[..], &[("GRPC_ADDR", &addr)]];
    Process::start(
        &std::env::temp_dir(),
        &[],
        &settings(database, &more.concat()),
    )
}

fn edge(port: u16, replicas: [u16; 2]) -> Process {
    let addr = format!("127.0.0.1:{port}");
    let urls = replicas
        .map(|port| format!("http://127.0.0.1:{port}"))
        .join(",");
    let variables = [
        ("EDGE_ADDR", &*addr),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("AUTH_URL", &urls),
        ("AUTH_TOKEN", INTERNAL_TOKEN),
    ];
    Process::start(&std::env::temp_dir(), &["edge"], &variables)
}

impl World {
    async fn start() -> Option<Self> {
        let database = PostgresServer::start().await?;
        let ports = [free_port(), free_port()];
        let replicas = ports.map(|port| (replica(&database.url(), port), port));
        let edges = [0, 1].map(|first: usize| {
            let port = free_port();
            (edge(port, [ports[first], ports[1 - first]]), port)
        });
        Some(Self {
            database,
            replicas,
            edges,
            changes: Default::default(),
        })
    }

    fn ports(&self) -> [u16; 2] {
        [self.replicas[0].1, self.replicas[1].1]
    }

    async fn kill_replica(&mut self, index: usize) {
        let (process, port) = &mut self.replicas[index];
        process.signal("KILL");
        process.killed_by().await;
        *process = replica(&self.database.url(), *port);
    }

    async fn kill_edge(&mut self, index: usize) {
        let ports = self.ports();
        let (process, port) = &mut self.edges[index];
        self.changes[index].fetch_add(1, Ordering::SeqCst);
        process.signal("KILL");
        process.killed_by().await;
        *process = edge(*port, [ports[index], ports[1 - index]]);
        self.changes[index].fetch_add(1, Ordering::SeqCst);
    }

    async fn fault(&mut self, kind: usize, index: usize) {
        match kind {
            0 => self.kill_replica(index).await,
            1 => self.kill_edge(index).await,
            2 => {
                self.database.kill().await;
                self.kill_edge(index).await;
                self.database.start_again().await;
            }
            3 => {
                self.database.kill().await;
                self.database.start_again().await;
            }
            _ => {
                self.kill_replica(index).await;
                self.kill_edge(1 - index).await;
            }
        }
    }
}

fn client(port: u16) -> AuthServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    AuthServiceClient::new(endpoint.timeout(Duration::from_secs(5)).connect_lazy())
}

/// The status of an edge's answer. `None` if it does not run.
async fn ask(port: u16, token: &str) -> Option<u16> {
    let asking = async {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))
            .await
            .ok()?;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: edge\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    };
    timeout(Duration::from_secs(30), asking)
        .await
        .expect("an edge never hangs")
}

/// Asks an edge about all tokens, again and again.
async fn watch_edge(
    port: u16,
    changes: Arc<AtomicUsize>,
    truth: Arc<Truth>,
    stop: CancellationToken,
) {
    let mut refused = HashSet::new();
    // The last edge that knew everything.
    let mut answered = None;
    let change = || changes.load(Ordering::SeqCst);
    while !stop.is_cancelled() {
        for (index, tokens) in truth.tokens.iter().enumerate() {
            let began = Instant::now();
            let (before, start) = (truth.sessions()[index], change());
            let status = ask(port, &tokens.access_token).await;
            let (after, is_same) = (truth.sessions()[index], change() == start && start % 2 == 0);
            if is_same && matches!(status, Some(200 | 401)) {
                answered = Some(start);
            }
            match status {
                Some(200) => {
                    assert!(!refused.contains(&index), "admitted again: {before:?}");
                    let longest = began.checked_sub(LONGEST_ADMITTED);
                    let is_late = matches!((before, longest), (Session::Ended(at), Some(longest)) if at < longest);
                    assert!(!is_late, "admitted long after its end");
                }
                Some(401) => {
                    refused.insert(index);
                    assert_ne!(
                        after,
                        Session::Lives,
                        "refused a token of a session that lives"
                    );
                }
                // It was killed, or does not know the revocations yet.
                None | Some(503) => {
                    let may_be = !is_same || answered != Some(start);
                    assert!(may_be, "{status:?} of an edge that knew everything");
                }
                Some(other) => panic!("{other}"),
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Logs sessions out until half of them are left.
async fn log_out(ports: [u16; 2], truth: Arc<Truth>, stop: CancellationToken) {
    let mut clients = ports.map(client);
    for index in 0..SESSIONS / 2 {
        if stop.is_cancelled() {
            return;
        }
        truth.set(index, Session::Ends);
        for attempt in 0.. {
            let request = logout(&truth.tokens[index].refresh_token);
            if clients[(index + attempt) % 2].logout(request).await.is_ok() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        truth.set(index, Session::Ended(Instant::now()));
        sleep(Duration::from_millis(700)).await;
    }
}

async fn sign_in(world: &World) -> Truth {
    let mut client = client(world.replicas[0].1);
    eventually(async || client.register(register(ANA)).await.is_ok()).await;
    let mut tokens = Vec::new();
    for _ in 0..SESSIONS {
        let session = client
            .login(login(ANA))
            .await
            .expect("a login")
            .into_inner();
        tokens.push(session.tokens.expect("tokens"));
    }
    let sessions = Mutex::new(vec![Session::Lives; SESSIONS]);
    Truth { tokens, sessions }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_admit_no_ended_session_and_refuse_no_other() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let truth = Arc::new(sign_in(&world).await);
    for (_, port) in &world.edges {
        let token = &truth.tokens[0].access_token;
        eventually(async || ask(*port, token).await == Some(200)).await;
    }
    let (stop, mut watching) = (CancellationToken::new(), JoinSet::new());
    for (index, (_, port)) in world.edges.iter().enumerate() {
        let changes = Arc::clone(&world.changes[index]);
        watching.spawn(watch_edge(*port, changes, Arc::clone(&truth), stop.clone()));
    }
    let ending = tokio::spawn(log_out(world.ports(), Arc::clone(&truth), stop.clone()));
    let mut random = Random::new();
    for round in 0..soak(10, 60) {
        sleep(Duration::from_millis(random.below(2_000) as u64)).await;
        world.fault(round % 5, random.below(2)).await;
    }
    ending.await.expect("no panic");
    for (_, port) in &world.edges {
        for (index, tokens) in truth.tokens.iter().enumerate() {
            let expected = if index < SESSIONS / 2 { 401 } else { 200 };
            eventually(async || ask(*port, &tokens.access_token).await == Some(expected)).await;
        }
    }
    stop.cancel();
    while let Some(watched) = watching.join_next().await {
        watched.expect("each answer was right");
    }
}
