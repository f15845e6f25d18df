//! Metrics of this process from the operating system, with the names that Prometheus' own
//! clients use. They need `/proc`.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Reads `/proc` at each scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (name, help, metric) in metrics() {
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}

type Metric = (&'static str, &'static str, Box<dyn EncodeMetric>);

#[cfg(not(target_os = "linux"))]
fn metrics() -> Vec<Metric> {
    Vec::new()
}

#[cfg(target_os = "linux")]
fn metrics() -> Vec<Metric> {
    let cpu = |seconds| Box::new(ConstCounter::new(seconds)) as Box<dyn EncodeMetric>;
    let gauge = |value| Box::new(ConstGauge::new(value)) as Box<dyn EncodeMetric>;
    let mut metrics = Vec::new();
    if let Some(stat) = linux::Stat::read() {
        let memory = "Memory in RAM";
        let started = "When the process started, in seconds since 1970";
        metrics.extend([
            (
                "process_cpu_seconds",
                "Processor time used",
                cpu(stat.cpu_seconds),
            ),
            (
                "process_resident_memory_bytes",
                memory,
                gauge(stat.resident_bytes),
            ),
            ("process_threads", "Threads", gauge(stat.threads)),
            (
                "process_start_time_seconds",
                started,
                gauge(stat.start_seconds),
            ),
        ]);
    }
    if let Some(open) = linux::open_fds() {
        metrics.extend([
            ("process_open_fds", "Open file descriptors", gauge(open)),
            (
                "process_max_fds",
                "The most of them there may be",
                gauge(linux::max_fds()),
            ),
        ]);
    }
    metrics
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{read_dir, read_to_string};

    use rustix::{
        param::{clock_ticks_per_second, page_size},
        process::{Resource, getrlimit},
    };

    /// `/proc/self/stat`, `proc_pid_stat(5)`.
    pub(super) struct Stat {
        pub(super) cpu_seconds: f64,
        pub(super) resident_bytes: f64,
        pub(super) threads: f64,
        pub(super) start_seconds: f64,
    }

    impl Stat {
        pub(super) fn read() -> Option<Self> {
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

    pub(super) fn open_fds() -> Option<f64> {
        // Without the descriptor that lists them.
        let count = read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Some(as_f64(count as u64))
    }

    pub(super) fn max_fds() -> f64 {
        let limit = getrlimit(Resource::Nofile).current;
        limit.map_or(f64::INFINITY, as_f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "all values are far below 2^52")]
    const fn as_f64(n: u64) -> f64 {
        n as f64
    }
}
