//! `auth-service outbox`: lists, requeues and discards events that Kafka refused, and raises the
//! versions of all users.

use anyhow::bail;
use auth_service::{config::OutboxAction, db::Db, model::EventId};

use super::{note, print};

pub(super) async fn run(db: Db, action: OutboxAction) -> anyhow::Result<()> {
    match action {
        OutboxAction::List => list(&db).await,
        OutboxAction::Requeue { events, all } => {
            let parked = if all {
                db.parked_events().await?
            } else {
                vec![]
            };
            for event in parked.iter().map(|event| event.event_id).chain(events) {
                report(event, "requeued", db.requeue_event(event).await?)?;
            }
            Ok(())
        }
        OutboxAction::Discard { events } => {
            for event in events {
                report(event, "discarded", db.discard_event(event).await?)?;
            }
            Ok(())
        }
        OutboxAction::AdvanceVersions { by } => advance_versions(&db, by).await,
    }
}

/// Prints one line for each event: id, user, type, time and reason of parking, version. The
/// content is not printed.
async fn list(db: &Db) -> anyhow::Result<()> {
    let parked = db.parked_events().await?;
    if parked.is_empty() {
        note("no event is parked");
    }
    for event in parked {
        let parked_at = event.parked_at.map(|at| at.to_string()).unwrap_or_default();
        let reason = event.parked_reason.unwrap_or_default();
        print(&format!(
            "{}\t{}\t{}\t{parked_at}\t{reason}\t{}",
            event.event_id, event.user_id, event.event_type, event.user_version
        ))?;
    }
    Ok(())
}

/// Goes on from the beginning if it is repeated after a crash: some users are raised twice then,
/// which no consumer minds.
async fn advance_versions(db: &Db, by: i64) -> anyhow::Result<()> {
    let (mut users, mut after) = (0, None);
    loop {
        let advanced = db.advance_versions(after, by).await?;
        users += advanced.users;
        after = advanced.next;
        if after.is_none() {
            return print(&format!("raised the versions of {users} users by {by}"));
        }
    }
}

fn report(event: EventId, what: &str, found: bool) -> anyhow::Result<()> {
    if !found {
        bail!("{event} is not a parked event");
    }
    print(&format!("{event} {what}"))
}
