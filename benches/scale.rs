//! Large tables, a large backlog and many connections, each compared with small ones.
//!
//! `cargo bench -- scale` runs all three parts, and `scale-tables`, `scale-backlog` or
//! `scale-connections` one of them. Each part but the backlog starts a Postgres of its own, which
//! has the settings of a server for large tables and needs room below /tmp.

mod backlog;
mod connections;
mod housekeeping;
mod logins;
mod pgbouncer;
mod refresh;
mod revocations;
mod server;
mod tables;

use self::{server::Server, tables::Tables};
use crate::{
    Result,
    postgres::{Measured, Postgres, medians},
    table::Table,
};

const FEW_USERS: i64 = 50_000;
const MANY_USERS: i64 = 5_000_000;

/// The first change of a page after a checkpoint copies the whole page to the log. Random rows of
/// a large table hit a new page each time, and those of a small one soon do not. Between two
/// checkpoints the share of such changes falls, in the end to none. Both ends are measured: with
/// `full_page_writes` off and on.
const CHECKPOINTS: [(&str, &str); 2] = [
    ("long after a checkpoint", "off"),
    ("right after a checkpoint", "on"),
];

pub async fn measure(table: &mut Table, wanted: &[String]) -> Result<()> {
    let wants = |part: &str| wanted.iter().any(|name| name == "scale" || name == part);
    if wants("scale-tables") {
        measure_tables(table).await?;
    }
    if wants("scale-backlog") {
        backlog::measure(table).await?;
    }
    if wants("scale-connections") {
        connections::measure(table).await?;
    }
    Ok(())
}

async fn measure_tables(table: &mut Table) -> Result<()> {
    let server = Server::start(15).await?;
    // This fills the tables faster.
    server.set("full_page_writes", "off").await?;
    let few = Tables::fill(&server, FEW_USERS).await?;
    let many = Tables::fill(&server, MANY_USERS).await?;
    let postgres = Postgres::of(&few.database).await?;
    let both = [many, few];
    refresh::measure(table, &server, &postgres, &both).await?;
    logins::measure(table, &server, &postgres, &both).await?;
    for tables in &both {
        tables.fill_others().await?;
    }
    housekeeping::measure(table, &both).await?;
    revocations::measure(table, &both).await?;
    server.stop().await
}

/// Rows on calls to the large and to the small tables. The two names are for their rate, and for
/// what one of them costs.
fn report(table: &mut Table, [calls, call]: [&str; 2], when: &str, rounds: &[Vec<Measured>; 2]) {
    let [many, few] = rounds.each_ref().map(|rounds| medians(rounds));
    let (figure, what) = name(&format!("{calls} {when}"));
    table.rates(&figure, many.rate, what, few.rate, ">= 0.8x");
    let (figure, what) = name(&format!("{calls}, p99, {when}"));
    table.times(&figure, many.p99, what, few.p99, "<= 1.5x");
    let (figure, what) = name(&format!("Postgres, CPU of {call} {when}"));
    table.costs(&figure, many.cpu, "us", what, few.cpu, "");
    let (figure, what) = name(&format!("Postgres, WAL of {call} {when}"));
    table.costs(&figure, many.wal, "B", what, few.wal, "");
}

/// The name of a figure of many sessions, and its baseline.
fn name(figure: &str) -> (String, &'static str) {
    (
        format!("{figure}, 10 million sessions"),
        "with 100,000 sessions",
    )
}
