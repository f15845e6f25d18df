//! Sums up floods of log lines that callers can cause at will.
//!
//! A caller that is refused thousands of times a second must fill neither the disk nor the
//! attention of a reader. The first few lines of a kind are written in full; after that, one
//! line in each interval says how many there were. Two lines are of one kind if they come from
//! the same place in the code with the same event, reason and caller: words of closed sets, so
//! the number of kinds is bounded. Metrics still count each call.
//!
//! This holds for the lines that are named [`LIMITED`], and for all lines of other crates,
//! some of which warn of each malformed frame. The audit lines of successful acts, and those
//! that name an account that is attacked, are never left out.

mod rate;

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{
    Event, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
    info, warn,
};
use tracing_subscriber::layer::{Context, Filter};

use self::rate::Rate;
use super::{audit, is_own};

/// The name of an event whose lines are summed up when there are too many.
pub(crate) const LIMITED: &str = "limited";

/// The name of the events that are sums. They do not depend on `LOG`: the lines that they sum
/// up have passed its filter.
pub(super) const SUM: &str = "sum";

const INTERVAL: Duration = Duration::from_secs(10);

/// A filter of log lines, and the sums of the lines that it left out.
#[derive(Clone, Default)]
pub(super) struct Floods(Arc<Mutex<HashMap<Kind, Lines>>>);

#[derive(PartialEq, Eq, Hash)]
struct Kind {
    place: Identifier,
    words: Words,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Words {
    event: Option<String>,
    reason: Option<String>,
    caller: Option<String>,
}

struct Lines {
    rate: Rate,
    is_audit: bool,
    /// The text of the first line; audit lines have none.
    text: String,
}

impl Floods {
    /// Writes the sums in regular intervals. The last one is written by [`Self::sum_up`].
    pub(super) async fn run(self) {
        let mut interval = interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.sum_up();
        }
    }

    /// Ends the interval, and writes one line for each kind of which lines were left out.
    pub(super) fn sum_up(&self) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = Vec::new();
        kinds.retain(|kind, lines| {
            let count = lines.rate.end_interval();
            if count > 0 {
                sums.push((
                    kind.words.clone(),
                    lines.is_audit,
                    lines.text.clone(),
                    count,
                ));
            }
            !lines.rate.is_at_rest()
        });
        // Writing a line asks this filter again.
        drop(kinds);
        for (words, is_audit, text, count) in sums {
            write_sum(&words, is_audit, &text, count);
        }
    }

    fn is_in_full(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        let mut line = Line::default();
        event.record(&mut line);
        let is_own = metadata.name() == LIMITED;
        let kind = Kind {
            place: metadata.callsite(),
            // The words of other crates are not of closed sets.
            words: if is_own { line.words } else { Words::default() },
        };
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = kinds.entry(kind).or_insert_with(|| Lines {
            rate: Rate::default(),
            is_audit: metadata.target() == audit::TARGET,
            text: line.text,
        });
        lines.rate.count()
    }
}

fn write_sum(words: &Words, is_audit: bool, text: &str, count: u64) {
    let [event, reason, caller] =
        [&words.event, &words.reason, &words.caller].map(Option::as_deref);
    if is_audit {
        // Only failures are summed up.
        let outcome = audit::FAILED;
        info!(name: SUM, target: audit::TARGET, event, outcome, reason, caller, count);
    } else {
        warn!(name: SUM, reason, count, "more lines of one kind: {text}");
    }
}

impl<S: Subscriber> Filter<S> for Floods {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        !is_limited(event.metadata()) || self.is_in_full(event)
    }
}

fn is_limited(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    metadata.name() == LIMITED || target != audit::TARGET && !is_own(target)
}

/// What a line says.
#[derive(Default)]
struct Line {
    words: Words,
    text: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        let word = match field.name() {
            "event" => &mut self.words.event,
            "reason" => &mut self.words.reason,
            "caller" => &mut self.words.caller,
            _ => return,
        };
        *word = Some(value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        }
    }
}
