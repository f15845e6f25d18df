//! Metrics of this process from `/proc`, with the names that Prometheus' own clients use.

use std::{
    fmt,
    fs::{read_dir, read_to_string},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut add = |name, help, metric: &dyn EncodeMetric| {
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, help, None, kind)?)
        };
        if let Some(stat) = Stat::read() {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            add("process_cpu_seconds", "Processor time used", &cpu)?;
            let memory = ConstGauge::new(stat.resident_bytes);
            add("process_resident_memory_bytes", "Memory in RAM", &memory)?;
            let threads = ConstGauge::new(stat.threads);
            add("process_threads", "Threads", &threads)?;
            let start = ConstGauge::new(stat.start_seconds);
            let help = "When the process started, in seconds since 1970";
            add("process_start_time_seconds", help, &start)?;
        }
        if let Some(open) = open_fds() {
            let open = ConstGauge::new(open);
            add("process_open_fds", "Open file descriptors", &open)?;
            let max = ConstGauge::new(max_fds());
            let help = "The limit of open file descriptors";
            add("process_max_fds", help, &max)?;
        }
        Ok(())
    }
}

/// `/proc/self/stat`, `proc_pid_stat(5)`.
struct Stat {
    cpu_seconds: f64,
    resident_bytes: f64,
    threads: f64,
    start_seconds: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = read_to_string("/proc/self/stat").ok()?;
        // The second field, the program's name in parentheses, may contain any characters.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        // Numbered as in the manual: the first of these fields is the third.
        let field = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
        let ticks = as_f64(clock_ticks_per_second());
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            start_seconds: boot_time()? + field(22)? / ticks,
            resident_bytes: field(24)? * as_f64(page_size() as u64),
        })
    }
}

/// When the machine started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn open_fds() -> Option<f64> {
    // Without the descriptor that lists them.
    let count = read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(as_f64(count as u64))
}

fn max_fds() -> f64 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(f64::INFINITY, as_f64)
}

#[expect(clippy::cast_precision_loss, reason = "all values are far below 2^52")]
const fn as_f64(n: u64) -> f64 {
    n as f64
}
