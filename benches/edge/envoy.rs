//! Envoy with the edge against Envoy that verifies tokens itself and hears of no logout.

use std::{
    env, fs,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use auth_service::auth::SigningKey;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::{ROUND, ROUNDS, http::Client, sidecar::Sidecar};
use crate::{
    Result,
    load::{Measured, closed_loop},
    stats::median,
    table::{self, Table},
    world::{JWT_SECRET, free_port},
};

const STARTS_WITHIN: Duration = Duration::from_secs(30);

pub async fn measure(table: &mut Table, edge: &Sidecar, token: &str) -> Result<()> {
    let envoy = Envoy::start(edge.addr).await?;
    let mut ours = vec![Client::connect(envoy.with_edge, token).await?];
    let mut own = vec![Client::connect(envoy.alone, token).await?];
    let mut p99s = [const { Vec::new() }; 2];
    let p99 = |measured: Measured| measured.percentile(0.99);
    for _ in 0..=ROUNDS {
        p99s[0].push(p99(closed_loop(&mut ours, ROUND).await?));
        p99s[1].push(p99(closed_loop(&mut own, ROUND).await?));
    }
    let [ours, own] = p99s.map(|p99s| median(&p99s));
    let added = table::time(ours.saturating_sub(own));
    table.row(
        "p99 through Envoy with the edge, 1 client",
        &table::time(ours),
        &format!("{} Envoy's jwt_authn", table::time(own)),
        &format!("+{added}"),
        "<= +1 ms",
    );
    Ok(())
}

/// It is killed on drop.
struct Envoy {
    _process: Child,
    _folder: tempfile::TempDir,
    with_edge: SocketAddr,
    alone: SocketAddr,
}

impl Envoy {
    async fn start(edge: SocketAddr) -> Result<Self> {
        let binary = env::var("TEST_ENVOY_BIN").map_err(|_| "TEST_ENVOY_BIN is not set")?;
        let folder = tempfile::tempdir()?;
        let (ours, own) = (free_port()?, free_port()?);
        let file = folder.path().join("envoy.yaml");
        fs::write(&file, config(edge.port(), ours, own))?;
        let process = Command::new(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "-c"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let [with_edge, alone] = [ours, own].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let begun = Instant::now();
        while Client::connect(alone, "").await.is_err() {
            if begun.elapsed() > STARTS_WITHIN {
                return Err("Envoy does not start".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self {
            _process: process,
            _folder: folder,
            with_edge,
            alone,
        })
    }
}

fn config(edge: u16, ours: u16, own: u16) -> String {
    let key = SigningKey::new(JWT_SECRET.as_bytes().to_vec().into());
    let (kid, k) = (key.id(), BASE64URL.encode(JWT_SECRET));
    let ext_authz = "name: envoy.filters.http.ext_authz, typed_config: { \
        '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, \
        transport_api_version: V3, \
        grpc_service: { envoy_grpc: { cluster_name: edge }, timeout: 1s }, \
        allowed_headers: { patterns: [ { exact: authorization } ] } }";
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
    format!(
        "static_resources:
  listeners:
{}{}  clusters:
    - name: edge
      connect_timeout: 1s
      load_assignment: {{ cluster_name: edge, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {edge} }} }} }} }} ] }} ] }}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{ http2_protocol_options: {{}} }}
",
        listener(ours, ext_authz),
        listener(own, &jwt_authn)
    )
}
