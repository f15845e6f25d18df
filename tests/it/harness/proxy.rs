//! A network that a test can break: everything between the service and its database goes
//! through here.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

use super::{Backend, TestDatabase};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Frozen,
    Cut,
}

/// A proxy before the Postgres server of a test.
pub struct Proxy {
    /// For `DATABASE_URL`: the test's database through the proxy.
    pub url: String,
    link: watch::Sender<Link>,
}

impl Proxy {
    /// Starts it, with the network whole.
    pub async fn start(database: &TestDatabase) -> Self {
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
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), watched.clone()));
            }
        });
        Self { url, link }
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
async fn carry(mut client: TcpStream, server: String, link: watch::Receiver<Link>) {
    let mut cut = link.clone();
    let both_ways = async {
        let mut server = TcpStream::connect(server).await.expect("Postgres accepts");
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = pump(from_client, to_server, link.clone()) => {}
            () = pump(from_server, to_client, link) => {}
        }
    };
    tokio::select! {
        () = both_ways => {}
        _ = cut.wait_for(|link| *link == Link::Cut) => {}
    }
}

async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut link: watch::Receiver<Link>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let proceeds = link.wait_for(|link| *link != Link::Frozen).await.is_ok();
        if count == 0 || !proceeds || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
