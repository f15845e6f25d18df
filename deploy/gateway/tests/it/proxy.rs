//! A network between a gateway and the service, which can fail.

use std::{future::pending, net::SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub struct Proxy {
    pub url: String,
    silent: watch::Sender<()>,
}

impl Proxy {
    pub async fn start(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let silent = watch::Sender::new(());
        let connections = silent.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(client, service, connections.subscribe()));
            }
        });
        Self { url, silent }
    }

    /// The connections of now stay open, and carry nothing any more. Later ones work.
    pub fn fall_silent(&self) {
        self.silent.send_replace(());
    }
}

async fn carry(mut client: TcpStream, service: SocketAddr, mut silent: watch::Receiver<()>) {
    let Ok(mut server) = TcpStream::connect(service).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = silent.changed() => pending().await,
    }
}
