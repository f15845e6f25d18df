//! What is logged and how it looks, and where traces go.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    Problem,
    args::Args,
    problem::Problems,
    value::{self, one_of},
};

/// What is logged and how it looks, and where traces go.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which events.
    pub filter: EnvFilter,
    /// As what.
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

impl Default for LogConfig {
    fn default() -> Self {
        let format = if stderr().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        };
        Self {
            filter: EnvFilter::new("info"),
            format,
            traces: None,
        }
    }
}

impl LogConfig {
    /// `LOG` and `LOG_FORMAT` alone, for `migrate` and `outbox`.
    pub fn load(args: &Args) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let config = Self::read(args, &mut problems);
        problems.finish(Some(config))
    }

    pub(super) fn read(args: &Args, problems: &mut Problems) -> Self {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let filter = problems.parse("LOG", args.log.as_deref(), filter);
        let format = problems.parse("LOG_FORMAT", args.log_format.as_deref(), one_of(&formats));
        let default = Self::default();
        Self {
            filter: filter.unwrap_or(default.filter),
            format: format.unwrap_or(default.format),
            traces: None,
        }
    }

    /// All of it, for `serve`.
    pub(super) fn read_with_traces(args: &Args, problems: &mut Problems) -> Self {
        let endpoint = args.otel_exporter_otlp_endpoint.as_deref();
        Self {
            traces: problems.parse("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, value::http_url),
            ..Self::read(args, problems)
        }
    }
}

fn filter(value: &str) -> Result<EnvFilter, String> {
    // To the parser a misspelt level is a target, and then everything else is silent.
    let is_misspelt = |part: &str| !part.contains('=') && part.parse::<LevelFilter>().is_err();
    let has_spans = value.contains('[');
    match EnvFilter::try_new(value) {
        Ok(filter) if has_spans || !value.split(',').any(is_misspelt) => Ok(filter),
        _ => Err(
            "must be off, error, warn, info, debug or trace, or target=level, comma-separated"
                .into(),
        ),
    }
}
