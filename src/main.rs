//! The command line: reads the configuration, then serves, migrates or looks after the
//! outbox. Exit codes: 0 done, 1 failed, 64 wrong usage or configuration.

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use auth_service::{
    app::App,
    clock::{Clock, SystemClock},
    config::{Args, Command, Config, DatabaseConfig, LogConfig, OutboxAction, Problem},
    db::Db,
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    match Args::from_argv(std::env::args_os()) {
        Ok(args) => run(&args),
        Err(exit) => {
            let _ = exit.print();
            exit.code().into()
        }
    }
}
