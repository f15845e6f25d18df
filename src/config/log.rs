//! What is logged and how it looks, and where traces go.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    Problem,
    args::Args,
    problem::Problems,
    value::{self, one_of},
};
use crate::telemetry::{LogFormat, Settings};

/// `LOG` and `LOG_FORMAT` alone, for `migrate` and `outbox`.
pub fn log(args: &Args) -> Result<Settings, Vec<Problem>> {
    let mut problems = Problems::default();
    let settings = read(args, &mut problems);
    problems.finish(Some(settings))
}

fn read(args: &Args, problems: &mut Problems) -> Settings {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let filter = problems.parse("LOG", args.log.as_deref(), filter);
    let format = problems.parse("LOG_FORMAT", args.log_format.as_deref(), one_of(&formats));
    Settings {
        filter: filter.unwrap_or_else(|| EnvFilter::new("info")),
        format: format.unwrap_or_else(default_format),
        traces: None,
    }
}

fn default_format() -> LogFormat {
    if stderr().is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    }
}

/// All of it, for `serve`.
pub(super) fn read_with_traces(args: &Args, problems: &mut Problems) -> Settings {
    let endpoint = args.otel_exporter_otlp_endpoint.as_deref();
    Settings {
        traces: problems.parse("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, value::http_url),
        ..read(args, problems)
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
