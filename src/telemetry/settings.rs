//! What is logged, how it looks, and where traces go.

use tracing_subscriber::EnvFilter;

/// What is logged, how it looks, and where traces go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which events are logged.
    pub filter: EnvFilter,
    /// How a line looks.
    pub format: LogFormat,
    /// The OTLP receiver of traces; `None` makes none.
    pub traces: Option<String>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}
