//! Configuration by environment: see [`realchat_mailer_example::settings`] and the README.

use std::{panic, process};

use anyhow::Context as _;
use realchat_mailer_example::{consumer, delivery::Delivery, settings::Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    end_on_panic();
    let settings = Settings::from_environment()?;
    let delivery = Delivery::new(&settings)?;
    let result = consumer::run(&settings.kafka, delivery, stop_on_signal()?).await;
    if let Err(error) = result {
        eprintln!("{error:#}");
        process::exit(1); // returning would wait for a Kafka that does not answer
    }
    Ok(())
}

/// A mail whose task is gone would wait until the next start: start now.
fn end_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        print(info);
        process::exit(101);
    }));
}

/// The token is cancelled by SIGTERM or SIGINT. A second signal ends the process at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.is_cancelled() {
                process::exit(1);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}
