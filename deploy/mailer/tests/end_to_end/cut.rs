//! A proxy in front of the real Kafka that can be cut.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::kafka::brokers;

pub struct Kafka {
    pub addr: SocketAddr,
    is_up: Arc<watch::Sender<bool>>,
    /// Connections that came while it was cut.
    refused: Arc<watch::Sender<u32>>,
}

impl Kafka {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            addr: listener.local_addr().unwrap(),
            is_up: Arc::new(watch::Sender::new(true)),
            refused: Arc::default(),
        };
        let (is_up, refused) = (Arc::clone(&proxy.is_up), Arc::clone(&proxy.refused));
        let port = proxy.addr.port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *is_up.borrow() {
                    tokio::spawn(serve(client, port, is_up.subscribe()));
                } else {
                    refused.send_modify(|refused| *refused += 1);
                }
            }
        });
        proxy
    }

    /// Ends all connections, and refuses new ones.
    pub fn cut(&self) {
        self.is_up.send_replace(false);
    }

    /// Waits until the mailer has tried to connect while it was cut.
    pub async fn has_refused(&self) {
        let mut refused = self.refused.subscribe();
        refused.wait_for(|&refused| refused > 0).await.unwrap();
    }

    pub fn mend(&self) {
        self.is_up.send_replace(true);
    }
}

async fn serve(client: TcpStream, port: u16, mut is_up: watch::Receiver<bool>) {
    let server = TcpStream::connect(brokers()).await.unwrap();
    let (from_server, mut to_server) = server.into_split();
    let (mut from_client, to_client) = client.into_split();
    tokio::select! {
        _ = is_up.wait_for(|&is_up| !is_up) => {}
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = answers(from_server, to_client, port) => {}
    }
}

/// The broker gives its own address in answers. The client must come back to the proxy.
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    port: u16,
) -> std::io::Result<()> {
    let brokers = brokers();
    let (host, real) = brokers.split_once(':').unwrap();
    let address = |port: u16| [host.as_bytes(), &u32::from(port).to_be_bytes()].concat();
    let (real, proxy) = (address(real.parse().unwrap()), address(port));
    loop {
        let length = from.read_u32().await?;
        let mut answer = vec![0; length as usize];
        from.read_exact(&mut answer).await?;
        for start in 0..answer.len().saturating_sub(real.len() - 1) {
            if answer[start..].starts_with(&real) {
                answer[start..start + real.len()].copy_from_slice(&proxy);
            }
        }
        to.write_u32(length).await?;
        to.write_all(&answer).await?;
    }
}
