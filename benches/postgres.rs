//! What the work of a bench costs the server of the database, and a server with less CPU.

mod limit;

use std::{fs, time::Duration};

use crate::{
    Result,
    footprint::stat,
    load::{Client, closed_loop},
    stats::{median, per_call},
    world::Database,
};

/// Ends the names of figures of a server that is limited.
pub const LESS: &str = ", Postgres with 0.4 of a core";

/// All processes of the server, on this machine.
pub struct Postgres {
    client: tokio_postgres::Client,
    /// The parent of all others.
    postmaster: u32,
}

/// A closed loop, and what a call of it cost the server.
#[derive(Clone, Copy)]
pub struct Measured {
    /// Calls per second.
    pub rate: f64,
    /// Microseconds of CPU time for a call.
    pub cpu: f64,
    /// Bytes of WAL for a call.
    pub wal: f64,
    pub p99: Duration,
}

impl Postgres {
    pub async fn of(database: &Database) -> Result<Self> {
        let client = database.client().await?;
        let backend: i32 = client
            .query_one("SELECT pg_backend_pid()", &[])
            .await?
            .get(0);
        let backend = backend.try_into()?;
        let postmaster = parent(backend).ok_or("the server runs on this machine")?;
        Ok(Self { client, postmaster })
    }

    /// Runs all clients for `time`.
    pub async fn measure<C: Client>(
        &self,
        clients: &mut Vec<C>,
        time: Duration,
    ) -> Result<Measured> {
        let before = (self.cpu_time()?, self.wal().await?);
        let ran = closed_loop(clients, time).await?;
        let after = (self.cpu_time()?, self.wal().await?);
        Ok(Measured {
            rate: ran.rate(),
            cpu: per_call(
                after.0.saturating_sub(before.0).as_secs_f64() * 1e6,
                ran.count(),
            ),
            wal: per_call(after.1 - before.1, ran.count()),
            p99: ran.percentile(0.99),
        })
    }

    /// User and system time of all processes since their start.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for process in self.processes()? {
            // A process may end meanwhile: then its parent has its time.
            time += running(process).unwrap_or_default();
        }
        Ok(time + ended(self.postmaster)?)
    }

    /// The bytes that were ever written to the log.
    pub async fn wal(&self) -> Result<f64> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
        Ok(self.client.query_one(sql, &[]).await?.get(0))
    }

    /// The postmaster and its children.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mut processes = vec![self.postmaster];
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let process = name.to_str().and_then(|name| name.parse().ok());
            processes.extend(process.filter(|&it| parent(it) == Some(self.postmaster)));
        }
        Ok(processes)
    }
}

/// The medians of several rounds.
pub fn medians(rounds: &[Measured]) -> Measured {
    let of = |figure: fn(&Measured) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let p99s: Vec<_> = rounds.iter().map(|round| round.p99).collect();
    Measured {
        rate: of(|round| round.rate),
        cpu: of(|round| round.cpu),
        wal: of(|round| round.wal),
        p99: median(&p99s),
    }
}

/// In nanoseconds: `/proc/PID/stat` has hundredths of a second, too coarse for twenty processes.
fn running(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
    let nanos = stat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// The time of the children that have ended.
fn ended(process: u32) -> Result<Duration> {
    let times = stat(process, 13..15).ok_or("the server runs")?;
    Ok(Duration::from_millis(10 * times.iter().sum::<u64>()))
}

fn parent(process: u32) -> Option<u32> {
    stat(process, 1..2)?[0].try_into().ok()
}
