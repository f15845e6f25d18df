//! A network that a test can break: everything between the service and its database goes
//! through here.

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
    wire::{Listener, Statements},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Frozen,
    Cut,
}

/// What happens, once, to the connection on which the client first sends certain bytes.
#[derive(Clone)]
pub enum Trap {
    /// It is cut, and the server does not see them.
    CutBefore(Vec<u8>),
    /// The server sees them and acts; then it is cut, and the client never hears of it.
    LoseReplyTo(Vec<u8>),
}

type Traps = Arc<Mutex<Option<Trap>>>;

/// A proxy before the Postgres server of a test.
pub struct Proxy {
    /// For `DATABASE_URL`: the test's database through the proxy.
    pub url: String,
    link: watch::Sender<Link>,
    trap: Traps,
}

impl Proxy {
    /// Starts it, with the network whole.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::listening(database, None).await
    }

    /// The same, with somebody who listens to what the service says.
    pub async fn listening(database: &TestDatabase, statements: Option<Statements>) -> Self {
        assert_eq!(database.backend(), Backend::Postgres);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("bound").to_string();
        let url = database.url();
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
                let listener = statements.as_ref().map(Statements::listen);
                let carried = carry(client, server.clone(), watched.clone(), trap, listener);
                tokio::spawn(carried);
            }
        });
        Self { url, link, trap }
    }

    /// Sets a trap; only one is set at a time.
    pub fn set(&self, trap: Trap) {
        *self.trap.lock().unwrap() = Some(trap);
    }

    /// Whether somebody went into the trap.
    pub fn sprung(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }

    /// Ends all connections and every new one.
    pub fn cut(&self) {
        self.link.send_replace(Link::Cut);
    }

    /// Lets no byte pass, and keeps all connections open.
    pub fn freeze(&self) {
        self.link.send_replace(Link::Frozen);
    }

    /// Makes the network whole; what was held back while it was frozen arrives.
    pub fn heal(&self) {
        self.link.send_replace(Link::Up);
    }
}

/// Carries one connection until either end closes it or the link is cut.
async fn carry(
    mut client: TcpStream,
    server: String,
    link: watch::Receiver<Link>,
    trap: Traps,
    listener: Option<Listener>,
) {
    let listener = Mutex::new(listener);
    let mut cut = link.clone();
    let both_ways = async {
        let Ok(mut server) = TcpStream::connect(server).await else {
            return;
        };
        let muted = Mutex::new(false);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let spring = |sent: &[u8]| {
            if let Some(listener) = listener.lock().unwrap().as_mut() {
                listener.hear(sent);
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

/// Takes the trap out if these bytes go into it.
fn take(trap: &Traps, sent: &[u8]) -> Option<Trap> {
    let mut trap = trap.lock().unwrap();
    let (Trap::CutBefore(bait) | Trap::LoseReplyTo(bait)) = trap.as_ref()?;
    if sent.windows(bait.len()).any(|window| window == bait) {
        trap.take()
    } else {
        None
    }
}

/// Carries bytes one way, as long as `passes` says so.
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
