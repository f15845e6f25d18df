//! The configuration: read once, before anything is started, and right from then on.
//!
//! [`Args`] is what was given, as text; [`Config`] is what it means, with no text left to
//! parse. Every problem is reported in one run, and none shows a value. Nothing is written
//! while there is a problem; only the embedded default (no `DATABASE_URL`) writes at all.

use std::{net::SocketAddr, num::NonZeroUsize, path::Path, sync::Arc, thread, time::Duration};

mod args;
mod command;
mod database;
mod embedded;
mod kafka;
mod log;
mod postgres;
mod problem;
mod secret;
mod throttle;
mod tls;
mod tokens;
mod value;
mod warnings;

pub use args::{Args, Exit};
pub use command::{Command, KeysAction, OutboxAction};
pub use database::{database, existing_database};
pub use embedded::Embedded;
pub use log::log;
pub use problem::Problem;
pub use tokens::signing_secrets;

use embedded::DataFolder;
use problem::Problems;
use secret::Secret;

use crate::{
    auth, db,
    grpc::{InternalCallers, InternalToken},
    outbox, password, telemetry,
    tls::server,
};

/// All that `serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where gRPC listens.
    pub grpc_addr: SocketAddr,
    /// Where probes are answered.
    pub admin_addr: SocketAddr,
    /// The longest a call may take.
    pub request_timeout: Duration,
    /// The database.
    pub database: db::Settings,
    /// Tokens, sessions and the login throttle.
    pub auth: auth::Settings,
    /// How passwords are judged and hashed.
    pub passwords: password::Settings,
    /// The services that may call `GetSigningKey`.
    pub internal_callers: InternalCallers,
    /// TLS on the gRPC port; `None` for plain text.
    pub tls: Option<server::Settings>,
    /// Where events go; `None` keeps them in the outbox.
    pub kafka: Option<outbox::kafka::Settings>,
    /// The log and traces.
    pub log: telemetry::Settings,
    /// The embedded default, if there is no `DATABASE_URL`.
    pub embedded: Option<Embedded>,
}

impl Config {
    /// The configuration of `serve`. Makes the embedded default's folder and secrets below
    /// `base` (the current directory is `""`), but only if there is no problem.
    pub fn load(args: &Args, base: &Path) -> Result<Self, Vec<Problem>> {
        let (config, folder) = Self::look(args, base)?;
        let embedded = database::create(folder)?;
        Ok(Self { embedded, ..config })
    }

    /// The same without making anything: what [`Embedded`] says was created would be.
    pub fn check(args: &Args, base: &Path) -> Result<Self, Vec<Problem>> {
        let (config, folder) = Self::look(args, base)?;
        let embedded = folder.map(DataFolder::plan);
        Ok(Self { embedded, ..config })
    }

    fn look(args: &Args, base: &Path) -> Result<(Self, Option<DataFolder>), Vec<Problem>> {
        let mut problems = Problems::default();
        let mut folder = None;
        let config = Self::read(args, base, &mut folder, &mut problems);
        Ok((problems.finish(config)?, folder))
    }

    fn read(
        args: &Args,
        base: &Path,
        folder: &mut Option<DataFolder>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let grpc_addr = problems.parse("GRPC_ADDR", args.grpc_addr.as_deref(), value::address);
        let admin_addr = read_admin_addr(args, problems);
        let database = database::read(args, base, folder, problems);
        let auth = tokens::read(args, folder.as_mut(), problems);
        let grpc_addr = grpc_addr.unwrap_or(([127, 0, 0, 1], 50051).into());
        problems.require(
            !overlap(grpc_addr, admin_addr),
            ["ADMIN_ADDR", "GRPC_ADDR"],
            "must not be where GRPC_ADDR is",
        );
        let (request_timeout, passwords) = read_limits(args, problems);
        let internal_tokens = read_internal_tokens(args, folder.as_mut(), problems);
        let (tls, client_names) = tls::read(args, problems);
        let kafka = kafka::read(args, problems);
        let log = log::read_with_traces(args, problems);
        Some(Self {
            grpc_addr,
            admin_addr,
            request_timeout,
            database: database?,
            auth: auth?,
            passwords,
            internal_callers: InternalCallers::new(internal_tokens, client_names),
            tls,
            kafka,
            log,
            embedded: None,
        })
    }
}

/// Where probes are answered, for `healthcheck`: other variables are not looked at.
pub fn admin_addr(args: &Args) -> Result<SocketAddr, Vec<Problem>> {
    let mut problems = Problems::default();
    let addr = read_admin_addr(args, &mut problems);
    if addr.port() == 0 {
        problems.add("ADMIN_ADDR", "has port 0, so nobody can know where to ask");
    }
    problems.finish(Some(addr))
}

fn read_admin_addr(args: &Args, problems: &mut Problems) -> SocketAddr {
    let addr = problems.parse("ADMIN_ADDR", args.admin_addr.as_deref(), value::address);
    addr.unwrap_or(([127, 0, 0, 1], 9464).into())
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

fn read_limits(args: &Args, problems: &mut Problems) -> (Duration, password::Settings) {
    let range = || value::duration(Duration::from_millis(1)..=Duration::from_hours(1));
    let timeout = problems.parse("REQUEST_TIMEOUT", args.request_timeout.as_deref(), range());
    let cost = problems.parse(
        "BCRYPT_COST",
        args.bcrypt_cost.as_deref(),
        value::number(10..=16),
    );
    let range_of_threads = NonZeroUsize::MIN..=NonZeroUsize::MIN.saturating_add(1023);
    let threads = args.password_threads.as_deref();
    let threads = problems.parse("PASSWORD_THREADS", threads, value::number(range_of_threads));
    let max_wait = problems.parse(
        "PASSWORD_MAX_WAIT",
        args.password_max_wait.as_deref(),
        range(),
    );
    let min_score = args.password_min_score.as_deref();
    let min_score = problems.parse("PASSWORD_MIN_SCORE", min_score, value::number(0..=4));
    let request_timeout = timeout.unwrap_or(Duration::from_secs(10));
    let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let path = args.password_blocklist_file.as_deref();
    let blocklist = problems.parse("PASSWORD_BLOCKLIST_FILE", path, value::blocklist);
    let passwords = password::Settings {
        cost: cost.unwrap_or(12),
        threads: threads.unwrap_or_else(cores),
        max_wait: max_wait.unwrap_or(Duration::from_secs(2)),
        min_score: min_score.unwrap_or(2),
        blocklist: blocklist.map(Arc::new),
    };
    problems.require(
        passwords.max_wait < request_timeout,
        ["PASSWORD_MAX_WAIT", "REQUEST_TIMEOUT"],
        "must be shorter than REQUEST_TIMEOUT (the defaults are 2s and 10s)",
    );
    (request_timeout, passwords)
}

fn read_internal_tokens(
    args: &Args,
    folder: Option<&mut DataFolder>,
    problems: &mut Problems,
) -> Vec<InternalToken> {
    let (value, file) = (
        args.internal_tokens.as_deref(),
        args.internal_tokens_file.as_deref(),
    );
    let tokens = match folder {
        Some(folder) if value.is_none() && file.is_none() => {
            let token = |text: &str| secret::internal_token("local", text);
            let found = folder.internal_token(problems);
            found
                .and_then(|found| found.parse(problems, token))
                .map(|token| vec![token])
        }
        _ => Secret::read("INTERNAL_TOKENS", value, file, problems)
            .and_then(|secret| secret.parse(problems, secret::internal_tokens)),
    };
    tokens.unwrap_or_default()
}

#[cfg(test)]
mod tests;
