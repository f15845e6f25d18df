use tracing_subscriber::EnvFilter;

#[derive(Clone, Debug)]
pub struct Settings {
    pub filter: EnvFilter,
    pub format: LogFormat,
    /// The OTLP receiver of traces; `None` turns traces off.
    pub traces: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    /// One JSON object per line.
    Json,
}
