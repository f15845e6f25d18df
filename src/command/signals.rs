//! SIGTERM and SIGINT, for every command.
//!
//! Process 1 of a container has no default action for signals, and a command may block in a
//! lock or in a file. Therefore a thread of its own waits for them from the first moment. A
//! signal ends the process at once with 1: what it did not finish, the database rolls back.
//! Only [`Signals::stop_in_order`] gives the first signal another meaning.

use std::{
    io,
    process::exit,
    sync::{Arc, OnceLock},
    thread,
};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{dispatcher, error, info, warn};

use super::note;

/// What the first signal cancels. Empty while a signal ends the process.
pub(crate) struct Signals(Arc<OnceLock<CancellationToken>>);

impl Signals {
    /// Handles both signals from now on.
    pub(crate) fn handle() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        drop(entered);
        let stop = Arc::new(OnceLock::new());
        let first = Arc::clone(&stop);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(obey(terminate, interrupt, &first)))?;
        Ok(Self(stop))
    }

    /// From now on the first signal cancels the token, and the second ends the process.
    pub(super) fn stop_in_order(&self) -> CancellationToken {
        self.0.get_or_init(CancellationToken::new).clone()
    }
}

async fn obey(mut terminate: Signal, mut interrupt: Signal, first: &OnceLock<CancellationToken>) {
    loop {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        match first.get() {
            Some(stop) if !stop.is_cancelled() => {
                info!(signal, "finishing what runs");
                stop.cancel();
            }
            Some(_) => {
                warn!(signal, "a second signal: exiting at once");
                exit(1);
            }
            None => {
                report_unfinished(signal);
                exit(1);
            }
        }
    }
}

/// The log may not have started yet.
fn report_unfinished(signal: &str) {
    if dispatcher::has_been_set() {
        error!(signal, "ended before the command was done");
    } else {
        note(format_args!(
            "ended by {signal} before the command was done"
        ));
    }
}
