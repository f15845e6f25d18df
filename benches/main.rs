//! The benchmarks. Each figure stands beside a baseline that was measured in the same run.
//!
//! `cargo bench` starts a real Postgres and a real Kafka with `tests/run`, runs all groups in
//! more than ten minutes and prints one table. `cargo bench -- refresh` runs one group. The
//! service is the release binary in its own process. A figure and its baseline alternate in
//! rounds, and the medians are compared, so other load on the machine affects both. The
//! open loop alone runs once, after its closed loop. The goals are printed but not asserted.
//! The group `scale` takes a quarter of an hour and 15 GB of disk, and runs only if it is named.

mod edge;
mod footprint;
mod import;
mod load;
mod logins;
mod outbox;
mod passwords;
mod postgres;
mod refresh;
mod scale;
mod stats;
mod table;
mod world;

use std::{env, error::Error, io::Write as _, process::ExitCode};

use self::table::Table;

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [command, mode, url] = &arguments[..]
        && command == "serve"
    {
        return world::serve(url, mode);
    }
    if !world::has_services() {
        return world::rerun_with_services();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(measure(&arguments)) {
        Ok(table) => {
            let printed = std::io::stdout().write_all(table.to_string().as_bytes());
            printed.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(wanted: &[String]) -> Result<Table> {
    let mut table = Table::default();
    let wants = |group: &str| wanted.is_empty() || wanted.iter().any(|name| name == group);
    if wants("passwords") {
        passwords::measure(&mut table).await?;
    }
    if wants("logins") {
        logins::measure(&mut table).await?;
    }
    if wants("refresh") {
        refresh::measure(&mut table).await?;
    }
    if wants("outbox") {
        outbox::measure(&mut table).await?;
    }
    if wants("import") {
        import::measure(&mut table).await?;
    }
    if wants("edge") {
        edge::measure(&mut table).await?;
    }
    if wants("footprint") {
        footprint::measure(&mut table).await?;
    }
    scale::measure(&mut table, wanted).await?;
    Ok(table)
}
