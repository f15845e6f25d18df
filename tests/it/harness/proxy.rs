//! A network that a test can break: a proxy between the service and its database.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

use super::{
    Backend, TestDatabase,
    wire::{Recorder, Statements},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Frozen,
    Cut,
}

/// A single fault on the connection on which the client first sends certain bytes.
#[derive(Clone)]
pub enum Trap {
    /// The connection ends, and the server does not get the bytes.
    CutBefore(Vec<u8>),
    /// The server gets the bytes and acts. Then the connection ends, and the client gets no
    /// answer.
    LoseReplyTo(Vec<u8>),
}

type Traps = Arc<Mutex<Option<Trap>>>;

/// A proxy in front of the Postgres server of a test.
pub struct Proxy {
    /// For `DATABASE_URL`: the database of the test through the proxy, which is then the only one.
    pub url: String,
    link: watch::Sender<Link>,
    trap: Traps,
}

impl Proxy {
    pub async fn start(database: &TestDatabase) -> Self {
        Self::recording(database, None).await
    }

    /// Like `start`, and records the statements that the service sends.
    pub async fn recording(database: &TestDatabase, statements: Option<Statements>) -> Self {
        assert_eq!(database.backend(), Backend::Postgres);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("bound").to_string();
        let url = database.direct_url();
        let (_, rest) = url.split_once("://").expect("a URL");
        let (authority, _) = rest.split_once('/').expect("a URL with a database");
        let (_, server) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (server, url) = (server.to_owned(), url.replacen(server, &here, 1));

        let link = watch::Sender::new(Link::Up);
        let watched = link.subscribe();
        let trap = Traps::default();
        let shared = Arc::clone(&trap);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let trap = Arc::clone(&shared);
                let recorder = statements.as_ref().map(Statements::recorder);
                let carried = carry(client, server.clone(), watched.clone(), trap, recorder);
                tokio::spawn(carried);
            }
        });
        Self { url, link, trap }
    }

    /// Sets a trap in place of the last one.
    pub fn set(&self, trap: Trap) {
        *self.trap.lock().unwrap() = Some(trap);
    }

    /// Whether the trap has acted.
    pub fn has_acted(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }

    /// Ends all connections and every new one.
    pub fn cut(&self) {
        self.link.send_replace(Link::Cut);
    }

    /// Passes no byte, and keeps all connections open.
    pub fn freeze(&self) {
        self.link.send_replace(Link::Frozen);
    }

    /// Ends the fault. Bytes that were held back arrive now.
    pub fn heal(&self) {
        self.link.send_replace(Link::Up);
    }
}

/// Carries one connection until an end closes it or the link is cut.
async fn carry(
    mut client: TcpStream,
    server: String,
    link: watch::Receiver<Link>,
    trap: Traps,
    recorder: Option<Recorder>,
) {
    let recorder = Mutex::new(recorder);
    let mut cut = link.clone();
    let both_ways = async {
        let Ok(mut server) = TcpStream::connect(server).await else {
            return;
        };
        // Else each small message waits for the acknowledgement of the one before.
        if client
            .set_nodelay(true)
            .and(server.set_nodelay(true))
            .is_err()
        {
            return;
        }
        let muted = Mutex::new(false);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let spring = |sent: &[u8]| {
            if let Some(recorder) = recorder.lock().unwrap().as_mut() {
                recorder.record(sent);
            }
            match take(&trap, sent) {
                None => true,
                Some(Trap::CutBefore(_)) => false,
                Some(Trap::LoseReplyTo(_)) => {
                    *muted.lock().unwrap() = true;
                    true
                }
            }
        };
        tokio::select! {
            () = pump(from_client, to_server, link.clone(), spring) => {}
            () = pump(from_server, to_client, link, |_| !*muted.lock().unwrap()) => {}
        }
    };
    tokio::select! {
        () = both_ways => {}
        _ = cut.wait_for(|link| *link == Link::Cut) => {}
    }
}

/// Removes and returns the trap if these bytes trigger it.
fn take(trap: &Traps, sent: &[u8]) -> Option<Trap> {
    let mut trap = trap.lock().unwrap();
    let (Trap::CutBefore(bait) | Trap::LoseReplyTo(bait)) = trap.as_ref()?;
    if sent.windows(bait.len()).any(|window| window == bait) {
        trap.take()
    } else {
        None
    }
}

/// Carries bytes in one direction while `passes` allows it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
    passes: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let proceeds = link.wait_for(|link| *link != Link::Frozen).await.is_ok();
        let bytes = &buffer[..count];
        if count == 0 || !proceeds || !passes(bytes) || to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
