//! The log, on stderr, as text or JSON, filtered by `LOG`. The modules below hold the other
//! signals: metrics, traces and the audit log.
//!
//! A line that belongs to a call names its method, and its trace if there is one.
//!
//! Some rules hold for every value of `LOG`. Other crates never log below INFO, because at
//! DEBUG and TRACE they print header values, frames and SQL parameters, which contain tokens
//! and e-mail addresses. rskafka never logs, because it also returns its errors. A panic is
//! logged like other faults, but its message only if it is a constant, because a formatted
//! message may contain a value.

pub mod audit;
mod flood;
pub mod metrics;
mod settings;
pub mod traces;

use std::{
    error::Error,
    fmt::{Display, Formatter, Result as FmtResult},
    io::{IsTerminal, stderr},
    panic::{self, PanicHookInfo},
};

use opentelemetry_otlp::ExporterBuildError;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    Layer,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    fmt,
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

pub(crate) use self::flood::LIMITED;
pub use self::settings::{LogFormat, Settings};
use self::{
    flood::{Floods, SUM},
    traces::Traces,
};

/// The target of spans that only appear in traces.
pub(crate) const SPANS: &str = "trace";
/// The target of spans that only appear in the log.
pub(crate) const CALLS: &str = "call";

/// Displays an error with its causes on one line: `error: cause: cause of the cause`.
pub struct Causes<'a>(pub &'a dyn Error);

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some crates already include the cause in the error's text.
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            source = cause.source();
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start the log")]
    Log(#[from] TryInitError),
    #[error("cannot send traces")]
    Traces(#[from] ExporterBuildError),
}

/// The log of this process, and the export of its traces if that is configured.
pub struct Telemetry {
    traces: Option<Traces>,
    floods: Floods,
}

impl Telemetry {
    /// Writes and sends what is left.
    pub fn close(self) {
        if let Some(traces) = self.traces {
            traces.close();
        }
        self.floods.sum_up();
    }
}

/// Starts the log, and the export of traces; the caller closes them at the end. The caller must
/// have entered a runtime.
pub fn init(settings: &Settings) -> Result<Telemetry, StartError> {
    let color = stderr().is_terminal();
    let traces = settings.traces.as_deref().map(Traces::to).transpose()?;
    let floods = Floods::default();
    subscriber(settings, color, stderr, traces.as_ref(), &floods).try_init()?;
    panic::set_hook(Box::new(log_panic));
    tokio::spawn(floods.clone().run());
    Ok(Telemetry { traces, floods })
}

fn subscriber<W>(
    settings: &Settings,
    color: bool,
    writer: W,
    traces: Option<&Traces>,
    floods: &Floods,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // It would panic if stderr is closed or full.
    let layer = fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match settings.format {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
        // Without `with_ansi` the layer also respects NO_COLOR.
        LogFormat::Text if color => layer.boxed(),
        LogFormat::Text => layer.with_ansi(false).boxed(),
    };
    let lines = lines.with_filter(
        filter_fn(is_always_logged)
            .or(settings.filter.clone().and(filter_fn(may_be_logged)))
            .and(floods.clone()),
    );
    let mut layers = vec![lines.boxed()];
    layers.extend(traces.map(|traces| traces.layer().boxed()));
    // Libraries report a lot at TRACE. A level that no layer wants is dropped before any filter
    // looks at it.
    let wanted = settings.filter.max_level_hint();
    let level = wanted.map_or(LevelFilter::TRACE, |wanted| wanted.max(LevelFilter::INFO));
    tracing_subscriber::registry().with(layers).with(level)
}

/// Audit lines, and the spans that give each line its call, do not depend on `LOG`.
fn is_always_logged(metadata: &Metadata<'_>) -> bool {
    let is_call = metadata.is_span() && metadata.target() == CALLS;
    let is_audit = metadata.target() == audit::TARGET || metadata.name() == SUM;
    is_call || metadata.is_event() && is_audit
}

/// Only the lines of this crate are known to be free of secrets at every level.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    if target == SPANS {
        return false;
    }
    is_own(target) || *metadata.level() <= Level::INFO && !target.starts_with("rskafka")
}

fn is_own(target: &str) -> bool {
    target == "auth_service" || target.starts_with("auth_service::")
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let reason = info.payload().downcast_ref::<&'static str>();
    let location = info.location().map(ToString::to_string);
    tracing::error!(reason, location, "panicked");
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::EnvFilter;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let settings = Settings {
            filter: EnvFilter::new(filter),
            format,
            traces: None,
        };
        let floods = Floods::default();
        let subscriber = subscriber(&settings, false, move || writer.clone(), None, &floods);
        tracing::subscriber::with_default(subscriber, || {
            act();
            floods.sum_up();
        });
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn an_error_is_shown_with_its_causes_once() {
        let inner = io::Error::other("no route");
        let outer = io::Error::other(io::Error::other(inner));
        assert_eq!(Causes(&outer).to_string(), "no route");
        let cause = ExporterBuildError::InvalidConfiguration("no scheme".to_owned());
        assert_eq!(
            Causes(&StartError::from(cause)).to_string(),
            "cannot send traces: invalid exporter configuration: no scheme"
        );
    }

    #[test]
    fn other_crates_never_log_below_info() {
        for filter in [
            "trace",
            "h2=trace,auth_service=trace",
            "auth_service_x=trace,h2=debug",
        ] {
            let log = logged(filter, LogFormat::Text, || {
                tracing::trace!(target: "h2::codec", "secret");
                tracing::debug!(target: "hyper", "secret");
                tracing::debug!(target: "auth_service_x", "secret");
                tracing::info!(target: "h2", "shown");
            });
            assert!(!log.contains("secret"), "{filter}");
            assert!(log.contains("shown"), "{filter}");
        }
    }

    #[test]
    fn this_crate_logs_at_the_level_of_the_filter() {
        let act = || {
            tracing::debug!(target: "auth_service::outbox", "detail");
            tracing::info!(target: "auth_service", "news");
        };
        assert!(logged("auth_service=debug", LogFormat::Text, act).contains("detail"));
        let log = logged("info", LogFormat::Text, act);
        assert!(log.contains("news") && !log.contains("detail"));
        assert!(!log.contains('\u{1b}'));
    }

    #[test]
    fn json_is_one_object_per_line() {
        let log = logged("info", LogFormat::Json, || {
            tracing::info!(user_id = 7, "news");
        });
        assert_eq!(log.lines().count(), 1);
        assert!(
            log.starts_with('{') && log.contains(r#""message":"news","user_id":7"#),
            "{log}"
        );
    }

    /// The log of these lines, each as often as the number says.
    fn flooded(lines: &[(u64, fn())]) -> Vec<String> {
        let log = logged("info", LogFormat::Json, || {
            for (times, line) in lines {
                (0..*times).for_each(|_| line());
            }
        });
        log.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_flood_of_one_kind_is_summed_up_with_event_outcome_reason_and_count() {
        use audit::{Audit, Context, Event, Reason};
        let denied = || {
            let caller = Some("gateway".to_owned());
            let context = Context {
                caller,
                ..Context::default()
            };
            Audit::of(Event::SigningKey, &context).failed(Reason::UnknownCaller);
        };
        let unknown = || {
            let context = Context::default();
            Audit::of(Event::Login, &context).failed(Reason::UnknownUser);
        };
        let log = flooded(&[
            (3478, denied),
            (2, unknown),
            (100, || {
                Audit::of(Event::Login, &Context::default()).ok();
            }),
        ]);
        let with = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        // Another kind is in full, and a success always.
        assert_eq!((with("unknown_user"), with(r#""outcome":"ok""#)), (2, 100));
        assert_eq!(with("unknown_caller"), 21);
        let sum = log.last().unwrap();
        for field in [
            r#""target":"audit""#,
            r#""event":"signing_key""#,
            r#""outcome":"failed""#,
            r#""reason":"unknown_caller""#,
            r#""caller":"gateway""#,
            r#""count":3458"#,
        ] {
            assert!(sum.contains(field), "no {field} in {sum}");
        }
    }

    #[test]
    fn lines_that_name_an_attacked_account_are_never_summed_up() {
        use audit::{Audit, Context, Event, Reason};
        fn line(event: Event, reason: Reason) {
            Audit::of(event, &Context::default()).failed(reason);
        }
        let log = flooded(&[
            (50, || line(Event::Login, Reason::WrongPassword)),
            (50, || line(Event::ChangePassword, Reason::PasswordChanged)),
            (50, || line(Event::Refresh, Reason::Reused)),
        ]);
        assert_eq!(log.len(), 150);
    }

    #[test]
    fn floods_of_limited_lines_and_of_other_crates_are_summed_up_and_others_are_not() {
        let log = flooded(&[
            (
                50,
                || tracing::warn!(target: "h2::proto", "a strange frame"),
            ),
            (50, || {
                tracing::warn!(name: LIMITED, target: "auth_service", reason = "full", "too many");
            }),
            (50, || tracing::warn!(target: "auth_service", "news")),
        ]);
        let with = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        assert_eq!(
            (with("a strange frame"), with("too many"), with("news")),
            (21, 21, 50)
        );
        let sums: Vec<_> = log
            .iter()
            .filter(|line| line.contains(r#""count":30"#))
            .collect();
        assert_eq!(sums.len(), 2, "{sums:?}");
        let own = sums
            .iter()
            .find(|sum| sum.contains("more lines of one kind: too many"));
        assert!(own.unwrap().contains(r#""reason":"full""#), "{own:?}");
    }

    #[test]
    fn lines_that_the_filter_drops_are_not_summed_up() {
        let log = logged("error", LogFormat::Text, || {
            (0..50).for_each(|_| tracing::warn!(name: LIMITED, target: "auth_service", "x"));
        });
        assert_eq!(log, "");
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_with_its_message_only_if_constant() {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        let secret = "needle".to_owned();
        let log = logged("info", LogFormat::Text, || {
            for act in [
                |_: &str| panic!("a constant"),
                |text: &str| panic!("{text}"),
            ] {
                assert!(panic::catch_unwind(|| act(&secret)).is_err());
            }
        });
        panic::set_hook(hook);
        assert_eq!(log.matches("src/telemetry.rs:").count(), 2, "{log}");
        assert!(
            log.contains("a constant") && !log.contains("needle"),
            "{log}"
        );
    }
}
