//! The commands: each reads the configuration that it needs, and then does one thing.

mod check_config;
mod completions;
mod healthcheck;
mod keys;
mod migrate;
mod outbox;
mod serve;

use std::{io::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use auth_service::{
    config::{self, Args, Command, Config, KeysAction, Problem},
    db::{self, Db},
    telemetry::{self, Causes},
};
use prometheus_client::registry::Registry;
use tracing::error;

/// How long one step of a command on the database may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command that was given.
///
/// What was given is dropped before: it holds the secrets as plain text.
pub(crate) fn run(args: Args) -> Result<ExitCode, Vec<Problem>> {
    let here = Path::new("");
    Ok(match args.command.clone().unwrap_or(Command::Serve) {
        Command::Serve => {
            let config = Config::load(&args, here)?;
            drop(args);
            logged(&config.log.clone(), serve::run(config))
        }
        Command::Migrate => {
            let config = config::database(&args, here)?;
            let (log, db) = database(args, &config)?;
            logged(&log, migrate::run(db))
        }
        Command::CheckConfig => {
            let config = Config::check(&args, here)?;
            drop(args);
            logged(&config.log.clone(), check_config::run(config))
        }
        Command::Healthcheck => plain(healthcheck::run(config::admin_addr(&args)?)),
        Command::Outbox { action } => {
            let config = config::existing_database(&args, here)?;
            let (log, db) = database(args, &config)?;
            logged(&log, async move { outbox::run(&db, action).await })
        }
        Command::Keys { action } => plain(match action {
            KeysAction::Generate => keys::generate(),
            KeysAction::Jwks => keys::jwks(config::signing_secrets(&args, here)?),
        }),
        Command::Completions { shell } => plain(completions::run(shell)),
    })
}

fn database(args: Args, config: &db::Settings) -> Result<(telemetry::Settings, Db), Vec<Problem>> {
    let log = config::log(&args)?;
    drop(args);
    Ok((log, Db::new(config, STEP_TIMEOUT, &mut Registry::default())))
}

/// Work that waits for others, and logs.
fn logged(log: &telemetry::Settings, work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let done = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| {
            let entered = runtime.enter();
            let telemetry = telemetry::init(log)?;
            drop(entered);
            let done = runtime.block_on(work);
            telemetry.close();
            // A thread that hangs in a system call must not hold up the exit.
            runtime.shutdown_background();
            done
        });
    match done {
        Err(error) if tracing::dispatcher::has_been_set() => {
            error!("{}", Causes(&*error));
            ExitCode::FAILURE
        }
        // Said plainly if it is the log that could not start.
        done => plain(done),
    }
}

/// Work that is done at once.
fn plain(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", Causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// To stdout: what a command was asked for.
fn print(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
