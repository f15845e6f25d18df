//! The connections of 64 replicas: what an idle one costs, and what idle ones cost the others.
//!
//! One replica makes refreshes, and the benches hold the connections that the pools of the other 63
//! would hold. Each of these has run a statement of the service.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::sleep;
use tokio_postgres::Client;

use super::{FEW_USERS, Server, Tables, pgbouncer};
use crate::{
    Result, footprint,
    postgres::{Measured, Postgres, medians},
    refresh::{self, Refresher, UPDATE},
    stats::{median, percentile},
    table::{self, Table},
    world::{self, Service},
};

pub const REPLICAS: usize = 64;
/// The default of `DATABASE_MAX_CONNECTIONS`.
pub const POOL: usize = 16;
const SMALL_POOL: usize = 4;
const CLIENTS: usize = 64;
const ROUNDS: usize = 4;
const ROUND: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(5);
/// The statements that each idle connection has run.
const RUNS: usize = 20;

pub async fn measure(table: &mut Table) -> Result<()> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let server = Server::start(4).await?;
    let tables = Tables::fill(&server, FEW_USERS).await?;
    let postgres = Postgres::of(&tables.database).await?;
    idle(table, &server, &tables).await?;
    quiet(table, &postgres, &tables).await?;
    beside(table, &postgres, &tables).await?;
    pgbouncer::measure(table, &server, &postgres, &tables).await?;
    drop(tables);
    server.stop().await
}

/// The cost of the connections themselves.
async fn idle(table: &mut Table, server: &Server, tables: &Tables) -> Result<()> {
    let count = (REPLICAS - 1) * POOL;
    let before = available()?;
    let idle = Idle::open(&tables.database.url, count).await?;
    let name = format!("connections of {REPLICAS} pools of {POOL}: opening one, p50");
    let p99 = table::time(percentile(&idle.times, 0.99));
    table.row(
        &name,
        &table::time(median(&idle.times)),
        &format!("p99 {p99}"),
        "",
        "",
    );
    let fresh = server.memory_of("idle").await?;
    idle.use_all().await?;
    let used = server.memory_of("idle").await?;
    let kilobytes = |bytes: u64| format!("{} kB", bytes / 1000);
    let name = "memory of Postgres for an idle connection that was used";
    let baseline = format!("{} of a new one", kilobytes(fresh));
    table.row(name, &kilobytes(used), &baseline, "", "");
    let all = footprint::megabytes(before.saturating_sub(available()?));
    table.row(
        &format!("memory of the machine for {count} of them"),
        &all,
        "",
        "",
        "",
    );
    Ok(())
}

/// The cost of a replica without calls: it looks for revocations and renews its lease.
async fn quiet(table: &mut Table, postgres: &Postgres, tables: &Tables) -> Result<()> {
    let service = Service::start(&tables.database.url, &[]).await?;
    sleep(QUIET).await;
    let before = postgres.cpu_time()?;
    sleep(QUIET).await;
    let used = postgres.cpu_time()?.saturating_sub(before);
    drop(service);
    let share = 100.0 * used.as_secs_f64() / QUIET.as_secs_f64();
    let name = "Postgres, CPU for a replica without calls";
    table.row(name, &format!("{share:.2} % of a core"), "", "", "");
    Ok(())
}

/// Refreshes of one replica beside the idle connections of the others.
async fn beside(table: &mut Table, postgres: &Postgres, tables: &Tables) -> Result<()> {
    let url = &tables.database.url;
    let beside = [POOL, SMALL_POOL].map(|pool| (REPLICAS - 1) * pool);
    let mut rounds = [const { Vec::new() }; 3];
    let mut replicas = Vec::new();
    for (pool, idle) in [(POOL, 0), (POOL, beside[0]), (SMALL_POOL, beside[1])] {
        replicas.push((Replica::start(url, tables, pool).await?, idle));
    }
    for _ in 0..ROUNDS {
        for ((replica, idle), rounds) in replicas.iter_mut().zip(&mut rounds) {
            let idle = Idle::open(url, *idle).await?;
            idle.use_all().await?;
            rounds.push(replica.refresh(postgres).await?);
        }
    }
    let [alone, large, small] = rounds.map(|rounds| medians(&rounds));
    let what = format!("a pool of {POOL} alone");
    for (measured, pool, idle) in [(large, POOL, beside[0]), (small, SMALL_POOL, beside[1])] {
        let name = format!("a pool of {pool} beside {idle} idle connections");
        report(table, &name, &measured, &what, &alone);
    }
    Ok(())
}

pub fn report(table: &mut Table, name: &str, measured: &Measured, what: &str, baseline: &Measured) {
    let figure = |figure: &str| format!("{figure}, {name}");
    table.rates(
        &figure("Refresh"),
        measured.rate,
        what,
        baseline.rate,
        ">= 0.9x",
    );
    table.times(
        &figure("Refresh p99"),
        measured.p99,
        what,
        baseline.p99,
        "<= 1.5x",
    );
    let cpu = figure("Postgres, CPU of a refresh");
    table.costs(&cpu, measured.cpu, "us", what, baseline.cpu, "");
}

/// A running replica, and its clients.
pub struct Replica {
    _service: Service,
    clients: Vec<Refresher>,
}

impl Replica {
    pub async fn start(url: &str, tables: &Tables, pool: usize) -> Result<Self> {
        let pool = pool.to_string();
        let service = Service::start(url, &[("DATABASE_MAX_CONNECTIONS", &pool)]).await?;
        Ok(Self {
            clients: refresh::clients(&service, &tables.db, CLIENTS).await?,
            _service: service,
        })
    }

    pub async fn refresh(&mut self, postgres: &Postgres) -> Result<Measured> {
        postgres.measure(&mut self.clients, ROUND).await
    }
}

/// Connections of the other replicas.
pub struct Idle {
    connections: Vec<Client>,
    /// How long it took to open each.
    times: Vec<Duration>,
}

impl Idle {
    pub async fn open(url: &str, count: usize) -> Result<Self> {
        let url = format!("{url}?application_name=idle");
        let (mut connections, mut times) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let begun = Instant::now();
            connections.push(world::client(&url).await?);
            times.push(begun.elapsed());
        }
        Ok(Self { connections, times })
    }

    /// Runs the statement of a refresh on each connection, for sessions that do not exist.
    pub async fn use_all(&self) -> Result<()> {
        for client in &self.connections {
            let statement = client.prepare(UPDATE).await?;
            for _ in 0..RUNS {
                let mut handle = [0; 32];
                getrandom::fill(&mut handle)?;
                let handle = &handle[..];
                client
                    .execute(&statement, &[&handle, &handle, &handle])
                    .await?;
            }
        }
        Ok(())
    }
}

/// The bytes that programs can still get from the machine.
fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    footprint::bytes(&text, "MemAvailable:")
}
