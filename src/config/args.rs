//! The command line: one clap struct, every field a flag with its environment variable.
//!
//! Each field is the text as it was given. Clap would stop at the first bad value and
//! print it; [`Config`](super::Config) reports every problem in one run and prints none.
//! There is no `Debug`: some of these texts are secrets.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
};

use clap::{Arg, CommandFactory, FromArgMatches, Parser};
use clap_complete::Shell;

use super::{Problem, command::Command};

const EXIT_CODES: &str = "\
Exit codes:
  0   done; serve: ended in order, by SIGTERM or SIGINT
  1   failed, the last line says why; serve: could not start, or a part of it died
  64  wrong usage or configuration, one line for each problem; nothing was started";

/// Which options a command obeys, by their headings. The others are accepted everywhere, so
/// that one environment does for all commands, but left out of its help.
const OBEYED: [(&str, &[&str]); 5] = [
    ("migrate", &["Database", "Telemetry"]),
    ("healthcheck", &["Server"]),
    ("outbox", &["Database", "Telemetry"]),
    ("keys", &["Tokens"]),
    ("completions", &[]),
];

/// RealChat Auth Service: accounts, sessions and tokens over gRPC.
///
/// Every option is also an environment variable; the flag wins.
#[derive(Parser)]
#[expect(clippy::doc_markdown, reason = "--help shows these texts as they are")]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do; serve when not given
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where gRPC listens; port 0 picks a free one [default: 127.0.0.1:50051]
    #[arg(long, env, value_name = "IP:PORT", help_heading = "Server")]
    pub grpc_addr: Option<String>,
    /// Where /metrics, /livez and /readyz are answered [default: 127.0.0.1:9464]
    #[arg(long, env, value_name = "IP:PORT", help_heading = "Server")]
    pub admin_addr: Option<String>,
    /// The longest a call may take, above 0s and at most 1h [default: 10s]
    #[arg(long, env, value_name = "DURATION", help_heading = "Server")]
    pub request_timeout: Option<String>,

    /// sqlite://path or postgres://user:password@host:5432/name, with sslmode=disable, prefer,
    /// require or verify-full and sslrootcert=path [default: sqlite://data/auth.db, made with
    /// its secrets in ./data]
    #[arg(long, env, value_name = "URL", help_heading = "Database")]
    pub database_url: Option<String>,
    /// File that holds the DATABASE_URL
    #[arg(long, env, value_name = "PATH", help_heading = "Database")]
    pub database_url_file: Option<String>,
    /// Most connections to Postgres, 1 to 1000 [default: 16]
    #[arg(long, env, value_name = "COUNT", help_heading = "Database")]
    pub database_max_connections: Option<String>,

    /// Key that signs access tokens: text of at least 32 bytes without a comma, or base64:..
    /// [default: generated when DATABASE_URL is not set]
    #[arg(long, env, value_name = "SECRET", help_heading = "Tokens")]
    pub jwt_secret: Option<String>,
    /// File that holds the JWT_SECRET
    #[arg(long, env, value_name = "PATH", help_heading = "Tokens")]
    pub jwt_secret_file: Option<String>,
    /// Key that will sign next: already published, not used yet [default: none]
    #[arg(long, env, value_name = "SECRET", help_heading = "Tokens")]
    pub jwt_next_secret: Option<String>,
    /// File that holds the JWT_NEXT_SECRET
    #[arg(long, env, value_name = "PATH", help_heading = "Tokens")]
    pub jwt_next_secret_file: Option<String>,
    /// Keys that no longer sign but still verify, comma-separated [default: none]
    #[arg(long, env, value_name = "SECRETS", help_heading = "Tokens")]
    pub jwt_previous_secrets: Option<String>,
    /// File that holds the JWT_PREVIOUS_SECRETS
    #[arg(long, env, value_name = "PATH", help_heading = "Tokens")]
    pub jwt_previous_secrets_file: Option<String>,
    /// The claim iss [default: realchat-auth]
    #[arg(long, env, value_name = "TEXT", help_heading = "Tokens")]
    pub jwt_issuer: Option<String>,
    /// The claim aud [default: realchat]
    #[arg(long, env, value_name = "TEXT", help_heading = "Tokens")]
    pub jwt_audience: Option<String>,
    /// How long an access token is valid, whole seconds, 1s to 30d [default: 60m]
    #[arg(long, env, value_name = "DURATION", help_heading = "Tokens")]
    pub access_token_ttl: Option<String>,
    /// How long a refresh token is valid, up to SESSION_MAX_AGE [default: 24h]
    #[arg(long, env, value_name = "DURATION", help_heading = "Tokens")]
    pub refresh_token_ttl: Option<String>,
    /// How long a session lives however often it is refreshed [default: 30d]
    #[arg(long, env, value_name = "DURATION", help_heading = "Tokens")]
    pub session_max_age: Option<String>,
    /// How long a lost refresh may be repeated, below REFRESH_TOKEN_TTL; 0s: never [default: 30s]
    #[arg(long, env, value_name = "DURATION", help_heading = "Tokens")]
    pub refresh_retry_window: Option<String>,

    /// bcrypt's cost, 10 to 16; each step doubles the work [default: 12]
    #[arg(long, env, value_name = "COST", help_heading = "Passwords")]
    pub bcrypt_cost: Option<String>,
    /// Threads that hash passwords, 1 to 1024 [default: one per core]
    #[arg(long, env, value_name = "COUNT", help_heading = "Passwords")]
    pub password_threads: Option<String>,
    /// Longest wait for a free hash lane, below REQUEST_TIMEOUT [default: 2s]
    #[arg(long, env, value_name = "DURATION", help_heading = "Passwords")]
    pub password_max_wait: Option<String>,
    /// Lowest zxcvbn score of a new password, 0 to 4 [default: 2]
    #[arg(long, env, value_name = "SCORE", help_heading = "Passwords")]
    pub password_min_score: Option<String>,
    /// Have-I-Been-Pwned file of SHA-1 hashes, ordered by hash: no new password may be in it
    /// [default: none]
    #[arg(long, env, value_name = "PATH", help_heading = "Passwords")]
    pub password_blocklist_file: Option<String>,

    /// Failures without a wait of an account at one caller address, 1 to 1000000 [default: 5]
    #[arg(long, env, value_name = "COUNT", help_heading = "Guessing")]
    pub throttle_free_per_pair: Option<String>,
    /// Failures without a wait of an account, 1 to 1000000 [default: 20]
    #[arg(long, env, value_name = "COUNT", help_heading = "Guessing")]
    pub throttle_free_per_account: Option<String>,
    /// Failures without a wait of a caller address, 1 to 1000000 [default: 50]
    #[arg(long, env, value_name = "COUNT", help_heading = "Guessing")]
    pub throttle_free_per_address: Option<String>,
    /// Failures of an account that are heard in 24 h, 1 to 1000000 [default: 100]
    #[arg(long, env, value_name = "COUNT", help_heading = "Guessing")]
    pub throttle_daily_per_account: Option<String>,
    /// Registrations without a wait of a caller address, 1 to 1000000 [default: 50]
    #[arg(long, env, value_name = "COUNT", help_heading = "Guessing")]
    pub throttle_registrations_per_address: Option<String>,
    /// First wait after those; each further failure doubles it [default: 1s]
    #[arg(long, env, value_name = "DURATION", help_heading = "Guessing")]
    pub throttle_first_wait: Option<String>,
    /// Longest wait, up to 1day [default: 15m]
    #[arg(long, env, value_name = "DURATION", help_heading = "Guessing")]
    pub throttle_longest_wait: Option<String>,
    /// How long it takes until one failure is forgotten, up to 7days [default: 30m]
    #[arg(long, env, value_name = "DURATION", help_heading = "Guessing")]
    pub throttle_fade: Option<String>,
    /// How long after a login an account at that caller address is not held back by failures
    /// elsewhere, up to 1year; 0s: never [default: 30d]
    #[arg(long, env, value_name = "DURATION", help_heading = "Guessing")]
    pub throttle_known_for: Option<String>,

    /// Who may call GetSigningKey: name:token, comma-separated, a token has at least 32
    /// characters [default: nobody; generated when DATABASE_URL is not set]
    #[arg(long, env, value_name = "TOKENS", help_heading = "Callers")]
    pub internal_tokens: Option<String>,
    /// File that holds the INTERNAL_TOKENS
    #[arg(long, env, value_name = "PATH", help_heading = "Callers")]
    pub internal_tokens_file: Option<String>,
    /// Certificate chain of the server, PEM; read again when it changes [default: no TLS]
    #[arg(long, env, value_name = "PATH", help_heading = "Callers")]
    pub tls_cert_file: Option<String>,
    /// Private key of the server, PEM, not encrypted
    #[arg(long, env, value_name = "PATH", help_heading = "Callers")]
    pub tls_key_file: Option<String>,
    /// CA of client certificates, PEM; clients may still come without one
    #[arg(long, env, value_name = "PATH", help_heading = "Callers")]
    pub tls_client_ca_file: Option<String>,
    /// Clients that are internal services, as those with INTERNAL_TOKENS are: the DNS names and
    /// URIs (subject alternative names) of their certificates, comma-separated
    #[arg(long, env, value_name = "NAMES", help_heading = "Callers")]
    pub internal_client_names: Option<String>,

    /// host:port, comma-separated [default: none, events wait in the database]
    #[arg(long, env, value_name = "BROKERS", help_heading = "Kafka")]
    pub kafka_brokers: Option<String>,
    /// Topic of the events [default: realchat.auth.user-events.v1]
    #[arg(long, env, value_name = "TOPIC", help_heading = "Kafka")]
    pub kafka_topic: Option<String>,
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL [default: PLAINTEXT]
    #[arg(long, env, value_name = "PROTOCOL", help_heading = "Kafka")]
    pub kafka_security_protocol: Option<String>,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; required by SASL
    #[arg(long, env, value_name = "MECHANISM", help_heading = "Kafka")]
    pub kafka_sasl_mechanism: Option<String>,
    /// User name; required by SASL
    #[arg(long, env, value_name = "NAME", help_heading = "Kafka")]
    pub kafka_sasl_username: Option<String>,
    /// Password; required by SASL
    #[arg(long, env, value_name = "SECRET", help_heading = "Kafka")]
    pub kafka_sasl_password: Option<String>,
    /// File that holds the KAFKA_SASL_PASSWORD
    #[arg(long, env, value_name = "PATH", help_heading = "Kafka")]
    pub kafka_sasl_password_file: Option<String>,
    /// CA certificates of the brokers, PEM [default: the system's]
    #[arg(long, env, value_name = "PATH", help_heading = "Kafka")]
    pub kafka_ssl_ca_file: Option<String>,

    /// off, error, warn, info, debug or trace, also per target: info,auth_service::outbox=debug;
    /// only targets of this service go below info [default: info]
    #[arg(long, env, value_name = "FILTER", help_heading = "Telemetry")]
    pub log: Option<String>,
    /// text or json [default: text on a terminal, else json]
    #[arg(long, env, value_name = "FORMAT", help_heading = "Telemetry")]
    pub log_format: Option<String>,
    /// Where traces go by OTLP over gRPC, such as http://127.0.0.1:4317 [default: none]
    #[arg(long, env, value_name = "URL", help_heading = "Telemetry")]
    pub otel_exporter_otlp_endpoint: Option<String>,
}

/// The program ends at once: help was asked for, or the usage is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Exit {
    /// What clap has to say.
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// Variables that hold no text; clap would not say which.
    #[error("not UTF-8")]
    NotText(Vec<Problem>),
}

impl Exit {
    /// `EX_USAGE` of sysexits.h for wrong usage (clap's own choice is 2), 0 for help.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Clap(error) if !error.use_stderr() => 0,
            Self::Clap(_) | Self::NotText(_) => 64,
        }
    }

    /// Prints clap's text, coloured on a terminal: help to stdout, an error to stderr.
    pub fn print(&self) -> io::Result<()> {
        match self {
            Self::Clap(error) => error.print(),
            Self::NotText(problems) => problems
                .iter()
                .try_for_each(|problem| writeln!(io::stderr(), "{problem}")),
        }
    }
}

impl Args {
    /// Reads the command line (the program's name first) and the environment.
    pub fn from_argv(argv: impl IntoIterator<Item = OsString>) -> Result<Self, Exit> {
        let definition = Self::definition();
        let names = definition.get_arguments().filter_map(Arg::get_env);
        let not_text: Vec<_> = names
            .filter(|name| env::var_os(name).is_some_and(|value| value.to_str().is_none()))
            .map(|name| Problem::new(name.to_string_lossy(), "is not text in UTF-8"))
            .collect();
        if !not_text.is_empty() {
            return Err(Exit::NotText(not_text));
        }
        Self::from_command(definition, argv)
    }

    /// The script for a shell that completes our commands and options.
    #[must_use]
    pub fn completions(shell: Shell) -> String {
        let (mut definition, mut script) = (Self::definition(), Vec::new());
        let name = definition.get_name().to_owned();
        clap_complete::generate(shell, &mut definition, name, &mut script);
        // For bash clap_complete takes the hyphen in our name for the beginning of a subcommand,
        // in the labels alone.
        String::from_utf8_lossy(&script).replace("auth__subcmd__service", "auth__service")
    }

    /// Every option works before and after a subcommand, and `--help` shows no values.
    fn definition() -> clap::Command {
        let mut command = Self::command().mut_args(|arg| arg.global(true).hide_env_values(true));
        let options: Vec<_> = command.get_arguments().cloned().collect();
        for (name, headings) in OBEYED {
            let obeyed = |option: &&Arg| {
                headings
                    .iter()
                    .any(|heading| option.get_help_heading() == Some(heading))
            };
            let others = options.iter().filter(|option| !obeyed(option));
            let hidden: Vec<_> = others.map(|option| option.clone().hide(true)).collect();
            command = command.mut_subcommand(name, |command| command.args(hidden));
        }
        command
    }

    fn from_command(
        command: clap::Command,
        argv: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Exit> {
        let matches = command.try_get_matches_from(argv)?;
        Ok(Self::from_arg_matches(&matches)?)
    }

    /// The options in `line`, separated by white space, whatever this process's environment holds.
    #[cfg(test)]
    pub(super) fn for_test(line: &str) -> Result<Self, Exit> {
        let argv = line.split_whitespace().map(OsString::from);
        let command = Self::definition().mut_args(|arg| arg.env(None));
        Self::from_command(command, std::iter::once("auth-service".into()).chain(argv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{OutboxAction, tests::VARIABLES},
        model::EventId,
    };

    fn code(line: &str) -> u8 {
        Args::for_test(line).err().map_or(200, |exit| exit.code())
    }

    fn command(line: &str) -> Option<Command> {
        Args::for_test(line).unwrap().command
    }

    #[test]
    fn help_lists_every_variable_and_shows_no_value() {
        for arg in Args::definition().get_arguments() {
            let name = arg.get_id().as_str().to_uppercase();
            assert_eq!(arg.get_env().unwrap(), name.as_str());
            assert!(
                arg.is_hide_env_values_set() && arg.is_global_set(),
                "{name}"
            );
        }
        let help = Args::definition().render_long_help().to_string();
        for name in VARIABLES {
            assert!(help.contains(&format!("[env: {name}]")), "{name}");
        }
    }

    #[test]
    fn wrong_usage_ends_with_64_and_help_with_0() {
        for line in ["--help", "--version", "help", "outbox --help", "migrate -h"] {
            assert_eq!(code(line), 0, "{line}");
        }
        for line in [
            "--no-such-flag",
            "no-such-command",
            "--log",
            "outbox",
            "outbox discard",
            "outbox requeue",
            "outbox discard not-an-id",
            "--log info --log info",
        ] {
            assert_eq!(code(line), 64, "{line}");
        }
    }

    #[test]
    fn a_flag_works_before_and_after_the_subcommand() {
        for line in [
            "--log warn outbox list",
            "outbox list --log warn",
            "outbox --log warn list",
        ] {
            let args = Args::for_test(line).unwrap();
            assert_eq!(args.log.as_deref(), Some("warn"), "{line}");
        }
    }

    #[test]
    fn subcommands() {
        let id = EventId::from_bytes([0xab; 16]);
        let action = |line: &str| match command(line) {
            Some(Command::Outbox { action }) => action,
            other => panic!("{other:?}"),
        };
        assert_eq!(command(""), None);
        assert_eq!(command("serve"), Some(Command::Serve));
        assert_eq!(command("migrate"), Some(Command::Migrate));
        assert_eq!(action("outbox list"), OutboxAction::List);
        let some = OutboxAction::Requeue {
            events: vec![id, id],
            all: false,
        };
        assert_eq!(action(&format!("outbox requeue {id} {id}")), some);
        let all = OutboxAction::Requeue {
            events: vec![],
            all: true,
        };
        assert_eq!(action("outbox requeue --all"), all);
        assert_eq!(
            action(&format!("outbox discard {id}")),
            OutboxAction::Discard { events: vec![id] }
        );
        assert_eq!(code(&format!("outbox requeue --all {id}")), 64);
    }
}
