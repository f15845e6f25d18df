//! The commands. Each reads the part of the configuration that it needs, then does one thing.

mod check_config;
mod edge;
mod healthcheck;
mod keys;
mod outbox;
mod serve;
mod signals;
mod users;

use std::{
    fmt::Display,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use auth_service::{
    config::{self, Args, Command, Config, KeysAction, Problem},
    db::{self, Db},
    telemetry::{self, Causes},
};
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;
use tracing::{error, info};

pub(crate) use self::signals::Signals;

/// `EX_USAGE` of sysexits.h.
pub(crate) const EX_USAGE: u8 = 64;
/// The time limit of one step of a command on the database.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Wrong usage that clap cannot find. It is printed like an error, with the exit code of clap's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

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
        Command::Edge => {
            let stop = signals.stop_in_order();
            let config = config::edge(&args)?;
            drop(args);
            run_logged(&config.log.clone(), edge::run(config, stop))
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
        Command::Users(command) => {
            let config = config::administration(&args, here)?;
            let (log, db) = database(args, &config.database)?;
            let parts = users::Parts {
                db: db.clone(),
                data_keys: config.data_keys,
                access_token_ttl: config.access_token_ttl,
            };
            exit_code(in_runtime(
                &log,
                closing(db, users::run(parts, command, signals)),
            ))
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
    match in_runtime(log, work) {
        Err(error) if tracing::dispatcher::has_been_set() => {
            error!("{}", Causes(&*error));
            ExitCode::FAILURE
        }
        // If the log could not start, the error goes to stderr.
        done => exit_code(done),
    }
}

/// Runs an asynchronous command with a log.
fn in_runtime(
    log: &telemetry::Settings,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let entered = runtime.enter();
    let telemetry = telemetry::init(log)?;
    drop(entered);
    let done = runtime.block_on(work);
    telemetry.close();
    // A thread that hangs in a system call must not delay the exit.
    runtime.shutdown_background();
    done
}

/// Prints the error of a finished command to stderr.
fn exit_code(done: anyhow::Result<()>) -> ExitCode {
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    note(Causes(&*error));
    if error.is::<Usage>() {
        EX_USAGE.into()
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a line to stderr. Nobody may read it, which changes neither the work nor the exit code.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn print(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}
