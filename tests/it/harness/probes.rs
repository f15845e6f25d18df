//! Health and the admin port.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::Service;

/// Waits, for at most a minute, until `check` holds.
pub async fn eventually(mut check: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !check().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), waiting)
        .await
        .expect("it comes true");
}

impl Service {
    /// The answer of `grpc.health.v1` for a service. An empty name means the process.
    pub async fn health(&self, name: &str) -> Result<ServingStatus, Status> {
        let request = HealthCheckRequest {
            service: name.to_owned(),
        };
        let answer = HealthClient::new(self.channel()).check(request).await?;
        Ok(answer.into_inner().status())
    }

    /// Waits, for at most a minute, until the health of the process has this value.
    pub async fn wait_for_health(&self, expected: ServingStatus) {
        let waiting = async {
            while self.health("").await.map_err(|status| status.code()) != Ok::<_, Code>(expected) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_mins(1), waiting)
            .await
            .expect("health has a state");
    }

    /// Status and body of the answer to `GET path` on the admin port.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        probe(self.admin_addr, path).await
    }
}

/// Status and body of the answer to `GET path`.
pub async fn probe(addr: SocketAddr, path: &str) -> (u16, String) {
    try_probe(addr, path).await.expect("the port is open")
}

/// Like [`probe`], for a port that may be closed.
pub async fn try_probe(addr: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let cut_off = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut_off)?;
    let status = head.split(' ').nth(1).expect("a status line");
    Ok((status.parse().expect("a status"), body.to_owned()))
}
