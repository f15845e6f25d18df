//! A proxy in front of Postgres that answers 40001 to some units of work, as a distributed
//! database does: to a COMMIT, or to a statement outside a transaction.
//!
//! The answer is true. Instead of the COMMIT the server gets a ROLLBACK, and the statement does
//! not reach it. It can also forget what a session sets about isolation, as a pooler in
//! transaction mode does, which gives a client another session at any time.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// The proxy. It ends when it is dropped.
pub struct Conflicts {
    /// Its address, in place of the server's.
    pub addr: String,
    plan: Plan,
    _running: AbortOnDropHandle<()>,
}

/// Which units of work are answered with 40001.
#[derive(Clone, Default)]
struct Plan(Arc<Mutex<Numbers>>);

#[derive(Default)]
struct Numbers {
    /// So many of the next ones.
    next: usize,
    /// Then one of so many; zero: none.
    one_of: usize,
    seen: usize,
    answered: usize,
    forgets_isolation: bool,
}

impl Conflicts {
    /// Starts it in front of a server, without conflicts.
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound").to_string();
        let (plan, server) = (Plan::default(), server.to_owned());
        let shared = plan.clone();
        let running = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, plan) = (server.clone(), shared.clone());
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await?;
                    // Else each small message waits for the acknowledgement of the one before.
                    client.set_nodelay(true)?;
                    server.set_nodelay(true)?;
                    Carried::new(plan).carry(client, server).await
                });
            }
        });
        Self {
            addr,
            plan,
            _running: AbortOnDropHandle::new(running),
        }
    }

    /// Answers 40001 to so many of the next units of work.
    pub fn answer_next(&self, count: usize) {
        self.plan.0.lock().unwrap().next = count;
    }

    /// From now on answers 40001 to one of so many units of work, and forgets the isolation.
    pub fn be_hostile(&self, one_of: usize) {
        let mut numbers = self.plan.0.lock().unwrap();
        (numbers.one_of, numbers.forgets_isolation) = (one_of, true);
    }

    /// How many units of work it has answered with 40001.
    pub fn answered(&self) -> usize {
        self.plan.0.lock().unwrap().answered
    }
}

impl Plan {
    /// Whether a test wants the next unit of work to conflict, whatever it ends with.
    fn has_next(&self) -> bool {
        self.0.lock().unwrap().next > 0
    }

    fn is_conflict(&self) -> bool {
        let mut numbers = self.0.lock().unwrap();
        numbers.seen += 1;
        let is_next = numbers.next > 0;
        numbers.next -= usize::from(is_next);
        let is_due = numbers.one_of > 0 && numbers.seen.is_multiple_of(numbers.one_of);
        numbers.answered += usize::from(is_next || is_due);
        is_next || is_due
    }

    /// The text of a simple query without what it sets about isolation.
    fn forget(&self, sql: &str) -> String {
        let forgets = self.0.lock().unwrap().forgets_isolation;
        let parts = sql.split(';').filter(|part| {
            !(forgets
                && part
                    .trim_start()
                    .starts_with("SET default_transaction_isolation"))
        });
        parts.collect::<Vec<_>>().join(";")
    }
}

/// What the messages of a connection are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client's first message, which has no type.
    Start,
    /// The server's one byte about encryption.
    Encryption,
    Messages,
    /// Encrypted, or the request to cancel a statement.
    Opaque,
}

/// One connection.
struct Carried {
    plan: Plan,
    phase: Phase,
    /// How often the server said that it is ready, and how often it will have said so when it has
    /// answered all that it got.
    ready: u64,
    expected: u64,
    /// The answers to replace: those that end with these numbers.
    replaced: VecDeque<u64>,
    in_transaction: bool,
    /// Whether the client's messages are dropped, until its next Sync.
    drops: bool,
    /// The prepared statements that set something: they cannot conflict.
    settings: HashSet<Vec<u8>>,
}

impl Carried {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            phase: Phase::Start,
            ready: 0,
            expected: 0,
            replaced: VecDeque::new(),
            in_transaction: false,
            drops: false,
            settings: HashSet::new(),
        }
    }

    async fn carry(mut self, mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
        let (mut sent, mut answered) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                count = client.read_buf(&mut sent) => {
                    let count = count?;
                    server.write_all(&self.follow_client(&mut sent)).await?;
                    if count == 0 { return Ok(()) }
                }
                count = server.read_buf(&mut answered) => {
                    let count = count?;
                    client.write_all(&self.follow_server(&mut answered)).await?;
                    if count == 0 { return Ok(()) }
                }
            }
        }
    }

    fn follow_client(&mut self, sent: &mut Vec<u8>) -> Vec<u8> {
        let mut to_server = Vec::new();
        loop {
            let typed = match self.phase {
                Phase::Start => false,
                Phase::Messages => true,
                Phase::Encryption => return to_server,
                Phase::Opaque => {
                    to_server.append(sent);
                    return to_server;
                }
            };
            let Some(message) = next(sent, usize::from(typed)) else {
                return to_server;
            };
            if typed {
                to_server.extend(self.message(message));
            } else {
                self.phase = match message[4..8] {
                    // SSLRequest, GSSENCRequest, CancelRequest.
                    [4, 210, 22, 47 | 48] => Phase::Encryption,
                    [4, 210, 22, 46] => Phase::Opaque,
                    _ => Phase::Messages,
                };
                self.expected += u64::from(self.phase == Phase::Messages);
                to_server.extend(message);
            }
        }
    }

    /// What the server gets in place of the client's message.
    fn message(&mut self, message: Vec<u8>) -> Vec<u8> {
        let is_quiet = self.ready == self.expected && !self.drops;
        match message[0] {
            b'Q' => {
                self.expected += 1;
                let sql = String::from_utf8_lossy(&message[5..message.len() - 1]);
                // A statement of the transaction may still be closing.
                let is_commit = self.in_transaction && sql == "COMMIT";
                if is_commit && (is_quiet || self.plan.has_next()) && self.plan.is_conflict() {
                    self.replaced.push_back(self.expected);
                    return query("ROLLBACK");
                }
                query(&self.plan.forget(&sql))
            }
            b'P' if !self.drops => {
                if let [name, sql, ..] = &texts(&message)[..] {
                    if sql.starts_with(b"SET ") {
                        self.settings.insert(name.to_vec());
                    } else {
                        self.settings.remove(*name);
                    }
                }
                message
            }
            b'B' if is_quiet
                && !self.in_transaction
                && !self.settings.contains(texts(&message)[1])
                && self.plan.is_conflict() =>
            {
                self.drops = true;
                Vec::new()
            }
            b'S' => {
                self.expected += 1;
                if std::mem::take(&mut self.drops) {
                    self.replaced.push_back(self.expected);
                }
                message
            }
            _ if self.drops => Vec::new(),
            _ => message,
        }
    }

    fn follow_server(&mut self, answered: &mut Vec<u8>) -> Vec<u8> {
        let mut to_client = Vec::new();
        if self.phase == Phase::Encryption && !answered.is_empty() {
            self.phase = match answered[0] {
                b'N' => Phase::Start,
                _ => Phase::Opaque,
            };
            to_client.push(answered.remove(0));
        }
        if self.phase == Phase::Opaque {
            to_client.append(answered);
        }
        while let Some(message) = next(answered, 1) {
            let is_replaced = self.replaced.front() == Some(&(self.ready + 1));
            let is_ready = message[0] == b'Z';
            if is_ready {
                self.ready += 1;
                self.in_transaction = message[5] != b'I';
            }
            if is_ready && is_replaced {
                self.replaced.pop_front();
                to_client.extend(conflict());
            }
            if is_ready || !is_replaced {
                to_client.extend(message);
            }
        }
        to_client
    }
}

/// Takes the next complete message. Its length stands after this many bytes.
fn next(bytes: &mut Vec<u8>, at: usize) -> Option<Vec<u8>> {
    let length = bytes.get(at..at + 4)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    let end = at + usize::try_from(length).expect("a length");
    (bytes.len() >= end).then(|| bytes.drain(..end).collect())
}

/// The texts of a message, which end with a zero.
fn texts(message: &[u8]) -> Vec<&[u8]> {
    message[5..].split(|byte| *byte == 0).collect()
}

fn query(sql: &str) -> Vec<u8> {
    framed(b'Q', format!("{sql}\0").as_bytes())
}

fn conflict() -> Vec<u8> {
    let fields = [
        "SERROR",
        "VERROR",
        "C40001",
        "Mcould not serialize access (the test says so)",
    ];
    framed(b'E', format!("{}\0\0", fields.join("\0")).as_bytes())
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("small").to_be_bytes();
    [&[kind], &length[..], body].concat()
}
