use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use auth_service::edge::proto::{
    AttributeContext, CheckRequest, HttpRequest, Request, RequestHeader,
};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::{TOKEN, http};
use crate::{
    Result, footprint,
    world::{Service, free_port},
};

/// `auth-service edge` in its own process, which is killed on drop.
pub struct Sidecar {
    process: Child,
    pub addr: SocketAddr,
}

impl Sidecar {
    /// Starts it beside a replica. Returns the time from exec until it is ready.
    pub async fn start(replica: &Service) -> Result<(Self, Duration)> {
        let [addr, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let begun = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_auth-service"))
            .arg("edge")
            .env_clear()
            .env("EDGE_ADDR", &addr)
            .env("ADMIN_ADDR", &admin)
            .env("AUTH_URL", replica.url())
            .env("AUTH_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        while !is_ready(admin.parse()?).await {
            sleep(Duration::from_millis(1)).await;
        }
        let addr = addr.parse()?;
        Ok((Self { process, addr }, begun.elapsed()))
    }

    pub fn cpu_time(&self) -> Result<Duration> {
        footprint::cpu_time(self.process.id().ok_or("it runs")?)
    }

    pub fn resident(&self) -> Result<u64> {
        footprint::resident(self.process.id().ok_or("it runs")?)
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    match http::Client::to(admin, "/readyz", "").await {
        Ok(mut client) => client.get().await.is_ok_and(|status| status == 200),
        Err(_) => false,
    }
}

/// As Envoy sends it.
pub fn check_request(token: &str) -> CheckRequest {
    let header = |key: &str, value: String| RequestHeader {
        key: key.to_owned().into(),
        value: value.into(),
        ..RequestHeader::default()
    };
    let http = HttpRequest {
        headers: vec![
            header(":path", "/messages".to_owned()),
            header(":method", "GET".to_owned()),
            header(":authority", "chat.example.com".to_owned()),
            header("authorization", format!("Bearer {token}")),
        ],
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request { http: Some(http) }),
        }),
    }
}
