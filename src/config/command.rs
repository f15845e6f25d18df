//! The subcommands. The doc comments are the text of `--help`.

mod users;

use clap::Subcommand;
use clap_complete::Shell;
use uuid::Uuid;

pub use self::users::{File, Until, Users, UsersAction};
use crate::model::EventId;

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the service (the default)
    Serve,
    /// Bring the database to this version's schema, then end
    Migrate,
    /// Report what is wrong, or what serve would do: tries database, Kafka, TLS files and disk,
    /// and changes nothing
    CheckConfig,
    /// Ask the service that runs here whether it is ready, for containers without a shell
    Healthcheck,
    /// Manage events that Kafka refused, and the versions of events
    Outbox {
        #[command(subcommand)]
        action: OutboxAction,
    },
    /// Find, change, delete, import and export accounts
    Users(Users),
    /// Make keys of access tokens, or show them
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Run beside a gateway: verify access tokens for Envoy, nginx, Caddy and others, with the keys
    /// and revocations of the service
    Edge,
    /// Print a script that completes commands and options
    Completions {
        /// The shell that will run it
        shell: Shell,
    },
}

#[expect(clippy::doc_markdown, reason = "--help shows these texts as they are")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum KeysAction {
    /// Print a new key for JWT_SECRET, JWT_NEXT_SECRET or DATA_KEY
    Generate,
    /// Print the keys as a JWK set. It is secret, and has only today's keys: a gateway that
    /// reads it once needs a new one and a restart at each rotation
    Jwks,
}

#[expect(clippy::doc_markdown, reason = "--help shows these texts as they are")]
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum OutboxAction {
    /// Show the parked events
    List,
    /// Publish parked events again
    Requeue {
        /// Ids of the events
        #[arg(value_parser = event_id, required_unless_present = "all", conflicts_with = "all")]
        events: Vec<EventId>,
        /// Every parked event
        #[arg(long)]
        all: bool,
    },
    /// Delete parked events for good: consumers will see a gap
    Discard {
        /// Ids of the events
        #[arg(value_parser = event_id, required = true)]
        events: Vec<EventId>,
    },
    /// Raise the user_version of all users, after a restore from a backup: the versions that
    /// were used since the backup must not be used again. Replicas may run, but start them after
    /// it: events written before it may be skipped by consumers. A second run raises
    /// them once more, which does no harm
    AdvanceVersions {
        /// By how much: more than the events that any user had since the backup
        #[arg(long, value_name = "N", default_value_t = 1_000_000,
            value_parser = clap::value_parser!(i64).range(1..=MAX_ADVANCE))]
        by: i64,
    },
}

/// Millions of runs stay below the largest version.
const MAX_ADVANCE: i64 = 1_000_000_000_000;

fn event_id(text: &str) -> Result<EventId, uuid::Error> {
    Ok(EventId::from_bytes(Uuid::try_parse(text)?.into_bytes()))
}
