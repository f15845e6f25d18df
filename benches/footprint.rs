//! The start-up time, the memory and the size of the service.

use std::{
    fs,
    ops::Range,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{process::Command, time::sleep};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    Result,
    stats::median,
    table::{self, Table},
    world::free_port,
};

const BINARY: &str = env!("CARGO_BIN_EXE_auth-service");

pub async fn measure(table: &mut Table) -> Result<()> {
    let mut starts = Vec::new();
    let mut memory = 0;
    for _ in 0..5 {
        let (start, resident) = start().await?;
        starts.push(start);
        memory = memory.max(resident);
    }
    let size = fs::metadata(BINARY)?.len();
    table.row(
        "idle resident memory, embedded SQLite",
        &megabytes(memory),
        "",
        "",
        "<= 20 MB",
    );
    let name = "exec to SERVING, embedded SQLite from nothing";
    table.row(name, &table::time(median(&starts)), "", "", "<= 200 ms");
    table.row(
        "stripped release binary",
        &megabytes(size),
        "",
        "",
        "<= 20 MB",
    );
    Ok(())
}

pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// The time from exec to SERVING on the embedded default, and the resident bytes 2 s later.
async fn start() -> Result<(Duration, u64)> {
    let folder = tempfile::tempdir()?;
    let addr = format!("127.0.0.1:{}", free_port()?);
    let begun = Instant::now();
    let service = Command::new(BINARY)
        .current_dir(folder.path())
        .env_clear()
        .env("GRPC_ADDR", &addr)
        .env("ADMIN_ADDR", "127.0.0.1:0")
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    while !is_serving(&addr).await {
        sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    sleep(Duration::from_secs(2)).await;
    Ok((took, resident(service.id().ok_or("it runs")?)?))
}

/// The resident bytes of a process.
pub fn resident(process: u32) -> Result<u64> {
    memory(process, "VmRSS:")
}

/// The most that a process has had resident.
pub fn peak(process: u32) -> Result<u64> {
    memory(process, "VmHWM:")
}

/// Lets the peak of this process begin again at what it has resident now.
pub fn reset_own_peak() -> Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// The bytes that a process takes from the machine: its own, its share of files in memory, and its
/// page tables. Memory that it shares with its server is not counted.
pub fn own(process: u32) -> Result<u64> {
    let map = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let shared = bytes(&map, "Pss_Shmem:")?;
    Ok(bytes(&map, "Pss:")? - shared + memory(process, "VmPTE:")?)
}

fn memory(process: u32, which: &str) -> Result<u64> {
    bytes(
        &fs::read_to_string(format!("/proc/{process}/status"))?,
        which,
    )
}

/// A number of kB in a text of Linux.
pub fn bytes(text: &str, which: &str) -> Result<u64> {
    let (_, bytes) = text.split_once(which).ok_or("a known name")?;
    let kib = bytes.split_whitespace().next().ok_or("a number")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// The CPU time of all threads of a process. Linux counts it in hundredths of a second.
pub fn cpu_time(process: u32) -> Result<Duration> {
    let times = stat(process, 11..13).ok_or("it runs")?;
    Ok(Duration::from_millis(10 * times.iter().sum::<u64>()))
}

/// Fields of `/proc/PID/stat`, from the state on.
pub fn stat(process: u32, fields: Range<usize>) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let values: Vec<_> = rest.split_whitespace().collect();
    let values = values.get(fields)?.iter().map(|value| value.parse().ok());
    values.collect()
}

async fn is_serving(addr: &str) -> bool {
    let Ok(endpoint) = Channel::from_shared(format!("http://{addr}")) else {
        return false;
    };
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}
