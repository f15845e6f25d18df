//! The commands. Each reads the part of the configuration that it needs, then does one thing.

mod check_config;
mod healthcheck;
mod keys;
mod outbox;
mod serve;
mod signals;

use std::{io::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use auth_service::{
    config::{self, Args, Command, Config, KeysAction, Problem},
    db::{self, Db},
    telemetry::{self, Causes},
};
use prometheus_client::registry::Registry;
use tracing::{error, info};

pub(crate) use self::signals::Signals;

/// The time limit of one step of a command on the database.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// The arguments are dropped before the work begins, because they hold secrets as plain text.
pub(crate) fn run(args: Args, signals: &Signals) -> Result<ExitCode, Vec<Problem>> {
    let here = Path::new("");
    Ok(match args.command.clone().unwrap_or(Command::Serve) {
        Command::Serve => {
            let stop = signals.stop_in_order();
            let config = Config::load(&args, here)?;
            drop(args);
            run_logged(&config.log.clone(), serve::run(config, stop))
        }
        Command::Migrate => {
            let config = config::database(&args, here)?;
            let (log, db) = database(args, &config)?;
            run_logged(&log, closing(db.clone(), migrate(db)))
        }
        Command::CheckConfig => {
            let config = Config::check(&args, here)?;
            drop(args);
            run_logged(&config.log.clone(), check_config::run(config))
        }
        Command::Healthcheck => exit_code(healthcheck::run(config::admin_addr(&args)?)),
        Command::Outbox { action } => {
            let config = config::existing_database(&args, here)?;
            let (log, db) = database(args, &config)?;
            run_logged(&log, closing(db.clone(), outbox::run(db, action)))
        }
        Command::Keys { action } => exit_code(match action {
            KeysAction::Generate => keys::generate(),
            KeysAction::Jwks => keys::jwks(config::signing_secrets(&args, here)?),
        }),
        Command::Completions { shell } => exit_code(print(Args::completions(shell).trim_end())),
    })
}

fn database(args: Args, config: &db::Settings) -> Result<(telemetry::Settings, Db), Vec<Problem>> {
    let log = config::log(&args)?;
    drop(args);
    Ok((log, Db::new(config, STEP_TIMEOUT, &mut Registry::default())))
}

async fn migrate(db: Db) -> anyhow::Result<()> {
    db.migrate().await?;
    info!("the database is up to date");
    Ok(())
}

/// Closes the database after `work`, whether it failed or not.
async fn closing<T>(db: Db, work: impl Future<Output = T>) -> T {
    let done = work.await;
    db.close().await;
    done
}

/// Runs an asynchronous command and logs its error.
fn run_logged(
    log: &telemetry::Settings,
    work: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    let done = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| {
            let entered = runtime.enter();
            let telemetry = telemetry::init(log)?;
            drop(entered);
            let done = runtime.block_on(work);
            telemetry.close();
            // A thread that hangs in a system call must not delay the exit.
            runtime.shutdown_background();
            done
        });
    match done {
        Err(error) if tracing::dispatcher::has_been_set() => {
            error!("{}", Causes(&*error));
            ExitCode::FAILURE
        }
        // If the log could not start, the error goes to stderr.
        done => exit_code(done),
    }
}

/// Prints the error of a finished command to stderr.
fn exit_code(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", Causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
