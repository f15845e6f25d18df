//! The command line: reads the configuration, then serves, migrates or looks after the
//! outbox. Exit codes: 0 done, 1 failed, 64 wrong usage or configuration.

mod outbox_command;

use std::{alloc::System, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use auth_service::{
    app::App,
    clock::{Clock as _, SystemClock},
    config::{Args, Command, Config, DatabaseConfig, Embedded, LogConfig, Problem},
    db::Db,
    telemetry::{self, Causes},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use zeroizing_alloc::ZeroAlloc;

/// Passwords and tokens also lie in buffers that no type of ours owns, those of protobuf
/// and HTTP/2. So whatever the process frees is wiped.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

const EX_USAGE: u8 = 64;

/// How long one step of `migrate` or `outbox` may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    keep_memory_private();
    allow_many_connections();
    let args = match Args::from_argv(std::env::args_os()) {
        Ok(args) => args,
        Err(exit) => {
            // If even this cannot be printed, the exit code still says it.
            let _ = exit.print();
            return exit.code().into();
        }
    };
    prepare(args).unwrap_or_else(|problems| {
        for problem in problems {
            eprintln!("{problem}");
        }
        EX_USAGE.into()
    })
}

/// No core dump, and no look into our memory by another process of the same user.
fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{
            DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit,
        };
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        // Hardening only: where the kernel refuses, the service still serves.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let _ = setrlimit(Resource::Core, none);
    }
}

/// As many file descriptors as the system grants: its default of 1024 is for programs that
/// use `select`, and fewer than the connections that the server would hold.
fn allow_many_connections() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let most = Rlimit {
            current: limit.maximum,
            ..limit
        };
        // With fewer, fewer connections are held.
        let _ = setrlimit(Resource::Nofile, most);
    }
}

/// Reads the configuration that the command needs, then runs it.
///
/// What was given is dropped before: it holds the secrets as plain text.
fn prepare(args: Args) -> Result<ExitCode, Vec<Problem>> {
    let here = Path::new("");
    Ok(match args.command.clone().unwrap_or(Command::Serve) {
        Command::Serve => {
            let config = Config::load(&args, here)?;
            drop(args);
            run(&config.log.clone(), serve(config))
        }
        Command::Migrate => {
            let log = LogConfig::load(&args)?;
            let database = DatabaseConfig::load(&args, here)?;
            drop(args);
            run(&log, migrate(database))
        }
        Command::Outbox { action } => {
            let log = LogConfig::load(&args)?;
            let database = DatabaseConfig::load(&args, here)?;
            drop(args);
            run(&log, async move {
                outbox_command::run(&Db::new(&database, COMMAND_TIMEOUT), action).await
            })
        }
    })
}

fn run(log: &LogConfig, work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let done = telemetry::init(log)
        .context("cannot start the log")
        .and_then(|()| tokio::runtime::Runtime::new().context("cannot start the runtime"))
        .and_then(|runtime| {
            let done = runtime.block_on(work);
            // A thread that hangs in a system call must not hold up the exit.
            runtime.shutdown_background();
            done
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", Causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    if let Some(embedded) = &config.embedded {
        announce(embedded);
    }
    for warning in config.warnings(SystemClock.now()) {
        warn!("{warning}");
    }
    let stop = CancellationToken::new();
    // From here on a signal is heard, however long the start takes.
    let (term, interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(heed(term, interrupt, stop.clone()));
    // A task of its own, since migrations block.
    let app = tokio::spawn(App::build(config, Arc::new(SystemClock)));
    let app = tokio::select! {
        app = app => app.context("the start panicked")??,
        () = stop.cancelled() => return Ok(()),
    };
    app.run(stop).await
}

/// The first signal asks for an orderly end, the second ends the process.
async fn heed(mut term: Signal, mut interrupt: Signal, stop: CancellationToken) {
    let mut next = async || {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = next().await;
    info!(signal = name, "finishing what runs");
    stop.cancel();
    let name = next().await;
    warn!(signal = name, "a second signal: exiting at once");
    std::process::exit(1);
}

async fn migrate(database: DatabaseConfig) -> anyhow::Result<()> {
    Db::new(&database, COMMAND_TIMEOUT).migrate().await?;
    info!("the database is up to date");
    Ok(())
}

/// Nobody should run on generated secrets without knowing.
fn announce(embedded: &Embedded) {
    let created: Vec<_> = embedded
        .created
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let generated = if created.is_empty() {
        String::new()
    } else {
        format!("; GENERATED {}", created.join(", "))
    };
    warn!(
        "NO DATABASE_URL: RUNNING ON THE EMBEDDED DEFAULT in {}/auth.db, not for production{generated}",
        embedded.folder.display()
    );
}
