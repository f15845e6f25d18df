use super::{Admin, known};
use crate::{
    auth::{Call, Error},
    model::{Event, Payload, SessionEndReason, Suspension, SuspensionReason, Timestamp, UserId},
    telemetry::audit,
};

impl Admin {
    /// Suspends an account: its sessions end, its resets are void, and nobody can log in to it.
    pub async fn suspend_user(
        &self,
        id: UserId,
        reason: &SuspensionReason,
        until: Option<Timestamp>,
        call: &Call,
    ) -> Result<(), Error> {
        let audit = call.audit(audit::Event::SuspendUser).user(id);
        let now = self.clock.now();
        if until.is_some_and(|until| until <= now) {
            return Err(Error::invalid("until", "must be in the future"));
        }
        let suspension = Suspension {
            reason: reason.as_str().to_owned(),
            since: now,
            until,
        };
        let payload = Payload::UserSuspended {
            reason: suspension.reason.clone(),
            until,
        };
        let event = Event::new(id, payload, &call.admin_act(now));
        let end = self.end(SessionEndReason::Suspended);
        let ended = self.db.suspend_user(&suspension, &event, end).await?;
        known(ended, audit)?;
        self.done(audit.because(reason.as_str()));
        Ok(())
    }

    /// Ends a suspension, if there is one.
    pub async fn restore_user(&self, id: UserId, call: &Call) -> Result<(), Error> {
        let audit = call.audit(audit::Event::RestoreUser).user(id);
        let act = call.admin_act(self.clock.now());
        let event = Event::new(id, Payload::UserRestored, &act);
        known(self.db.restore_user(&event).await?, audit)?;
        self.done(audit);
        Ok(())
    }
}
