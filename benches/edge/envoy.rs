//! Envoy with the edge against Envoy that verifies tokens itself and hears of no logout, and against
//! Envoy that asks a server which says yes to everything.

use std::{
    env, fs,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use auth_service::{
    auth::SigningKey,
    edge::proto::{CheckRequest, CheckResponse},
};
use axum::{Router, extract::Request, routing::post};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::sleep,
};
use tonic::{
    body::Body,
    server::Grpc,
    service::Routes,
    transport::server::{Server, TcpIncoming},
};
use tonic_prost::ProstCodec;

use super::{ROUND, ROUNDS, http::Client, sidecar::Sidecar};
use crate::{
    Result,
    load::closed_loop,
    stats::median,
    table::{self, Table},
    world::{JWT_SECRET, free_port},
};

const STARTS_WITHIN: Duration = Duration::from_secs(30);

pub async fn measure(table: &mut Table, edge: &Sidecar, token: &str) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let envoy = Envoy::start(edge.addr, listener.local_addr()?).await?;
    tokio::spawn(say_yes(listener));
    let mut clients = Vec::new();
    for addr in envoy.listeners {
        clients.push(vec![Client::connect(addr, token).await?]);
    }
    let mut p99s = [const { Vec::new() }; 3];
    for _ in 0..4 * ROUNDS {
        for (client, p99s) in clients.iter_mut().zip(&mut p99s) {
            p99s.push(closed_loop(client, ROUND / 2).await?.percentile(0.99));
        }
    }
    let [ours, own, yes] = p99s.map(|p99s| median(&p99s));
    let mut row = |baseline, what: &str, goal| {
        table.row(
            "p99 through Envoy with the edge, 1 client",
            &table::time(ours),
            &format!("{} {what}", table::time(baseline)),
            &format!("+{}", table::time(ours.saturating_sub(baseline))),
            goal,
        );
    };
    row(own, "Envoy's jwt_authn", "<= +1 ms");
    row(yes, "a server that says yes", "");
    Ok(())
}

/// An authorization server with empty answers, which admit every request.
async fn say_yes(listener: TcpListener) -> Result<()> {
    let routes = Router::new().route("/envoy.service.auth.v3.Authorization/Check", post(yes));
    let server = Server::builder().add_routes(Routes::from(routes));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(server.serve_with_incoming(incoming).await?)
}

async fn yes(request: Request) -> http::Response<Body> {
    let codec = ProstCodec::<CheckResponse, CheckRequest>::default();
    let answer = tower::service_fn(|_: tonic::Request<CheckRequest>| async {
        Ok(tonic::Response::new(CheckResponse::default()))
    });
    Grpc::new(codec).unary(answer, request).await
}

/// It is killed on drop.
struct Envoy {
    _process: Child,
    _folder: tempfile::TempDir,
    /// With the edge, without, and with the server that says yes.
    listeners: [SocketAddr; 3],
}

impl Envoy {
    async fn start(edge: SocketAddr, yes: SocketAddr) -> Result<Self> {
        let binary = env::var("TEST_ENVOY_BIN").map_err(|_| "TEST_ENVOY_BIN is not set")?;
        let folder = tempfile::tempdir()?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let file = folder.path().join("envoy.yaml");
        fs::write(&file, config(ports, edge.port(), yes.port()))?;
        let process = Command::new(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "-c"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let listeners = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let begun = Instant::now();
        while Client::connect(listeners[0], "").await.is_err() {
            if begun.elapsed() > STARTS_WITHIN {
                return Err("Envoy does not start".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self {
            _process: process,
            _folder: folder,
            listeners,
        })
    }
}

fn config(ports: [u16; 3], edge: u16, yes: u16) -> String {
    let key = SigningKey::new(JWT_SECRET.as_bytes().to_vec().into());
    let (kid, k) = (key.id(), BASE64URL.encode(JWT_SECRET));
    let ext_authz = |cluster: &str| {
        format!(
            "name: envoy.filters.http.ext_authz, typed_config: {{ \
             '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, \
             transport_api_version: V3, \
             grpc_service: {{ envoy_grpc: {{ cluster_name: {cluster} }}, timeout: 1s }}, \
             allowed_headers: {{ patterns: [ {{ exact: authorization }} ] }} }}"
        )
    };
    let jwt_authn = format!(
        "name: envoy.filters.http.jwt_authn, typed_config: {{ \
         '@type': type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication, \
         providers: {{ service: {{ issuer: realchat-auth, audiences: [ realchat ], local_jwks: {{ \
         inline_string: '{{\"keys\":[{{\"kty\":\"oct\",\"alg\":\"HS256\",\"kid\":\"{kid}\",\
         \"k\":\"{k}\"}}]}}' }} }} }}, \
         rules: [ {{ match: {{ prefix: / }}, requires: {{ provider_name: service }} }} ] }}"
    );
    let listener = |port: u16, filter: &str| {
        format!(
            "    - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: gateway
                http_filters:
                  - {{ {filter} }}
                  - {{ name: envoy.filters.http.router, typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}
                route_config:
                  virtual_hosts:
                    - {{ name: all, domains: ['*'], routes: [ {{ match: {{ prefix: / }}, direct_response: {{ status: 200 }} }} ] }}
"
        )
    };
    let cluster = |name: &str, port: u16| {
        format!(
            "    - name: {name}
      connect_timeout: 1s
      load_assignment: {{ cluster_name: {name}, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }} ] }} ] }}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{ http2_protocol_options: {{}} }}
"
        )
    };
    let filters = [ext_authz("edge"), jwt_authn, ext_authz("bare")];
    let listeners: String = ports
        .into_iter()
        .zip(&filters)
        .map(|(port, filter)| listener(port, filter))
        .collect();
    let clusters = cluster("edge", edge) + &cluster("bare", yes);
    format!("static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}")
}
