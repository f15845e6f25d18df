//! The subcommands: what the process is asked to do.
//!
//! The doc comments are the text of `--help`.

use clap::Subcommand;
use uuid::Uuid;

use crate::id::EventId;

/// What the process is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the service (the default)
    Serve,
    /// Bring the database to this version's schema, then end
    Migrate,
    /// Look after events that Kafka refused
    Outbox {
        /// What to do with them
        #[command(subcommand)]
        action: OutboxAction,
    },
}

/// What to do with events in the outbox.
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
}

fn event_id(text: &str) -> Result<EventId, uuid::Error> {
    Ok(EventId::from_bytes(Uuid::try_parse(text)?.into_bytes()))
}
