use std::{
    io::{IsTerminal as _, stderr},
    path::Path,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    Args, Problem,
    reader::Reader,
    value::{http_url, one_of},
    variable::{value, variables},
};
use crate::telemetry::{LogFormat, Settings};

variables! {
    "Telemetry"

    /// off, error, warn, info, debug or trace, also per target: info,auth_service::outbox=debug;
    /// only targets of this service go below info
    LOG: EnvFilter = value("FILTER", filter).default("info");
    /// text or json
    LOG_FORMAT: LogFormat = value("FORMAT", |text| one_of(text, &FORMATS))
        .when_unset("text on a terminal, else json");
    /// Where traces go by OTLP over gRPC, such as http://127.0.0.1:4317; a path is ignored
    OTEL_EXPORTER_OTLP_ENDPOINT: String = value("URL", http_url).when_unset("none");
    /// The same for traces alone; it wins
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: String = value("URL", http_url).when_unset("none");
    /// true turns traces off
    OTEL_SDK_DISABLED: bool = value("BOOL", |text| Ok(text.eq_ignore_ascii_case("true")))
        .default("false");
}

const WRONG_FILTER: &str =
    "must be off, error, warn, info, debug or trace, or target=level, comma-separated";

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The settings without traces, for commands that have none.
pub fn log(args: &Args) -> Result<Settings, Vec<Problem>> {
    let mut reader = Reader::new(args, Path::new(""));
    let settings = read_without_traces(&mut reader);
    reader.finish(Some(settings)).map(|(settings, _)| settings)
}

pub(super) fn read(reader: &mut Reader<'_>) -> Settings {
    let everything = reader.optional(&OTEL_EXPORTER_OTLP_ENDPOINT);
    let traces = reader.optional(&OTEL_EXPORTER_OTLP_TRACES_ENDPOINT);
    let is_disabled = reader.value(&OTEL_SDK_DISABLED);
    Settings {
        traces: traces.or(everything).filter(|_| !is_disabled),
        ..read_without_traces(reader)
    }
}

pub(super) fn read_without_traces(reader: &mut Reader<'_>) -> Settings {
    Settings {
        filter: reader.value(&LOG),
        format: reader.optional(&LOG_FORMAT).unwrap_or_else(default_format),
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

fn filter(text: &str) -> Result<EnvFilter, String> {
    // The parser takes a misspelt level for a target, and then everything else is silent.
    let is_misspelt = |part: &str| !part.contains('=') && part.parse::<LevelFilter>().is_err();
    let has_spans = text.contains('[');
    match EnvFilter::try_new(text) {
        Ok(filter) if has_spans || !text.split(',').any(is_misspelt) => Ok(filter),
        _ => Err(WRONG_FILTER.into()),
    }
}
