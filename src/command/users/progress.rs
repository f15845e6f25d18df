//! How far an import is, on a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

const BY_BYTES: &str = "{bar:30} {percent}% {msg} lines, {eta} left";
const BY_LINES: &str = "{spinner} {msg} lines, {elapsed}";

/// A bar on stderr, if that is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    lines: u64,
}

impl Progress {
    /// `bytes` is the size of the input, if it is known.
    pub(super) fn begin(bytes: Option<u64>) -> Self {
        let bar = match bytes {
            _ if !io::stderr().is_terminal() => ProgressBar::hidden(),
            Some(bytes) => ProgressBar::new(bytes).with_style(style(BY_BYTES)),
            None => ProgressBar::new_spinner().with_style(style(BY_LINES)),
        };
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, lines: 0 }
    }

    pub(super) fn advance(&mut self, lines: usize, bytes: u64) {
        self.lines += lines as u64;
        self.bar.set_message(self.lines.to_string());
        self.bar.set_position(bytes);
    }

    /// Prints something while the bar is away.
    pub(super) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}
