//! The edge: from a logout until gateways refuse, and what a check costs.

mod envoy;
mod http;
mod sidecar;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use auth_service::{
    app::SystemClock,
    auth::SigningKey,
    db::Db,
    edge::proto::{CheckRequest, CheckResponse},
    model::Clock as _,
    proto::{LogoutRequest, RefreshRequest, auth_service_client::AuthServiceClient},
};
use realchat_verifier::{Edge, Key, KeySet};
use secrecy::ExposeSecret as _;
use tonic::{client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use self::sidecar::Sidecar;
use crate::{
    Result,
    footprint::megabytes,
    load::{Client, closed_loop},
    refresh::sessions,
    stats::{median, percentile, rate},
    table::{self, Table},
    world::{Database, JWT_SECRET, Service},
};

const TOKEN: &str = "an-internal-token-of-the-benches-1234567";
const TOKENS: &str = "edge:an-internal-token-of-the-benches-1234567";
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
const LOGOUTS: usize = 300;
/// Revocations at the start of an edge.
const MANY: usize = 100_000;
/// Calls that a gateway has open at the same time.
const CALLS: usize = 64;

pub async fn measure(table: &mut Table) -> Result<()> {
    let (database, db) = Database::migrated().await?;
    let variables = [("INTERNAL_TOKENS", TOKENS)];
    let mut replicas = Vec::new();
    let mut edges = Vec::new();
    for _ in 0..3 {
        let replica = Service::start(&database.url, &variables).await?;
        edges.push(Sidecar::start(&replica).await?.0);
        replicas.push(replica);
    }
    logouts(table, &replicas[0], &db, &edges).await?;
    let (_, token) = signed_in(&replicas[0], &db).await?;
    verifier(table, &token)?;
    // The other figures are those of one edge alone.
    edges.truncate(1);
    replicas.truncate(1);
    checks(table, &edges[0], &token).await?;
    envoy::measure(table, &edges[0], &token).await?;
    drop(edges);
    restart(table, &replicas[0], &database).await?;
    drop(replicas);
    database.drop().await
}

/// The refresh token and the access token of a new session.
async fn signed_in(service: &Service, db: &Db) -> Result<(String, String)> {
    let token = sessions(db, 1).await?.remove(0);
    let refresh_token = token.expose().expose_secret().to_owned();
    let mut client = AuthServiceClient::new(service.connect().await?);
    let reply = client.refresh(RefreshRequest { refresh_token }).await?;
    let tokens = reply.into_inner().tokens.ok_or("tokens")?;
    Ok((tokens.refresh_token, tokens.access_token))
}

/// Each edge hears it from another replica.
async fn logouts(table: &mut Table, service: &Service, db: &Db, edges: &[Sidecar]) -> Result<()> {
    let mut client = AuthServiceClient::new(service.connect().await?);
    let mut times = Vec::new();
    for _ in 0..LOGOUTS {
        let (refresh_token, access_token) = signed_in(service, db).await?;
        let mut last = Duration::ZERO;
        client.logout(LogoutRequest { refresh_token }).await?;
        let committed = Instant::now();
        for edge in edges {
            let mut gateway = http::Client::connect(edge.addr, &access_token).await?;
            while gateway.get().await? != 401 {}
            last = committed.elapsed();
        }
        times.push(last);
    }
    let name = |share| format!("logout to refused at the last of 3 edges of 3 replicas, {share}");
    let (p50, p99) = (median(&times), percentile(&times, 0.99));
    table.row(&name("p50"), &table::time(p50), "", "", "< 100 ms");
    table.row(&name("p99"), &table::time(p99), "", "", "< 300 ms");
    Ok(())
}

/// Against `HMAC-SHA256` of the same token alone, which no verifier can avoid.
fn verifier(table: &mut Table, token: &str) -> Result<()> {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let secret = JWT_SECRET.as_bytes();
    let key = SigningKey::new(secret.to_vec().into());
    let mut edge = Edge::default();
    edge.set_keys(KeySet {
        keys: vec![Key::new(key.id().to_owned(), secret)],
        issuer: "realchat-auth".to_owned(),
        audience: "realchat".to_owned(),
        longest_life: Duration::from_hours(1),
    });
    let now = SystemClock.now().into();
    edge.verify(token, now).map_err(|why| format!("{why:?}"))?;
    let mac = Hmac::<sha2::Sha256>::new_from_slice(secret)?;
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        rates[0].push(per_second(|| {
            let _ = black_box(edge.verify(black_box(token), now));
        }));
        rates[1].push(per_second(|| {
            black_box(mac.clone().chain_update(black_box(token)).finalize());
        }));
    }
    let [ours, bare] = rates.map(|rates| median(&rates));
    let name = "checks by the verifier alone, one core";
    table.rates(name, ours, "HMAC-SHA256 of the token", bare, ">= 500000/s");
    Ok(())
}

fn per_second(mut step: impl FnMut()) -> f64 {
    const STEPS: usize = 200_000;
    let begun = Instant::now();
    for _ in 0..STEPS {
        step();
    }
    rate(STEPS, begun.elapsed())
}

/// A gateway that asks as Envoy does.
struct Gateway {
    client: Grpc<Channel>,
    request: CheckRequest,
}

impl Client for Gateway {
    async fn call(&mut self) -> Result<()> {
        self.client.ready().await?;
        let path = http_path("/envoy.service.auth.v3.Authorization/Check");
        let codec = ProstCodec::<CheckRequest, CheckResponse>::default();
        let request = tonic::Request::new(self.request.clone());
        let reply = self.client.unary(request, path, codec).await?.into_inner();
        let status = reply.status.ok_or("a status")?;
        if status.code != 0 {
            return Err("the token is good".into());
        }
        Ok(())
    }
}

fn http_path(path: &'static str) -> ::http::uri::PathAndQuery {
    ::http::uri::PathAndQuery::from_static(path)
}

/// Counted by the CPU time of the edge: the clients take the rest of the machine.
async fn checks(table: &mut Table, edge: &Sidecar, token: &str) -> Result<()> {
    let channel = Channel::from_shared(format!("http://{}", edge.addr))?;
    let channel = channel.connect().await?;
    let request = sidecar::check_request(token);
    let mut gateways: Vec<_> = (0..CALLS)
        .map(|_| Gateway {
            client: Grpc::new(channel.clone()),
            request: request.clone(),
        })
        .collect();
    closed_loop(&mut gateways, ROUND / 2).await?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let before = edge.cpu_time()?;
        let measured = closed_loop(&mut gateways, ROUND).await?;
        rates.push(rate(
            measured.count(),
            edge.cpu_time()?.saturating_sub(before),
        ));
    }
    let name = "checks by the edge over gRPC, for each second of CPU";
    table.row(name, &table::rate(median(&rates)), "", "", ">= 30000/s");
    Ok(())
}

async fn restart(table: &mut Table, service: &Service, database: &Database) -> Result<()> {
    let sql = format!(
        "INSERT INTO revocations (id, session_id, until)
         SELECT gen_random_uuid(), gen_random_uuid(), now() + interval '1 hour'
         FROM generate_series(1, {MANY})"
    );
    database.client().await?.batch_execute(&sql).await?;
    let mut times = Vec::new();
    let mut memory = 0;
    for round in 0..=ROUNDS {
        let (edge, ready) = Sidecar::start(service).await?;
        // The replica reads the new rows during the first one.
        if round > 0 {
            times.push(ready);
            memory = memory.max(edge.resident()?);
        }
    }
    let name = "edge from exec to ready, 100000 revocations";
    table.row(name, &table::time(median(&times)), "", "", "< 1 s");
    let name = "resident memory of that edge";
    table.row(name, &megabytes(memory), "", "", "");
    Ok(())
}
