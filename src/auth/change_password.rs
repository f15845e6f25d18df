use std::time::Duration;

use super::{
    Auth, Call, Error,
    caller::{Caller, done},
};
use crate::{
    db::NewHash,
    model::{Event, Payload, SessionEndReason},
    password::{Password, Priority},
    telemetry::audit,
};

const NEW_PASSWORD: &str = "new_password";

impl Auth {
    /// Replaces the password and ends the other sessions in one transaction: afterwards no
    /// other session, and no login with the old password, is left.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: &Password,
        new: Password,
        call: &Call,
    ) -> Result<(), Error> {
        let account = &caller.account;
        let audit = caller.audit(audit::Event::ChangePassword, call);
        // This check comes before the slow policy check, which is not throttled.
        let (email, priority) = (Some(account.email.as_str()), Priority::KnownDevice);
        self.check_password(email, current, priority, call, audit)
            .await?;
        let new = self.check_policy(NEW_PASSWORD, new, &account.email, call);
        let new = new.await?;
        if new.is(current) {
            let problem = "must differ from the current password";
            return Err(Error::invalid(NEW_PASSWORD, problem));
        }
        let hash = self.hasher.hash(&new, call.hash(priority)).await?;

        let now = self.clock.now();
        // Later than the previous time even if the clock went back: the time identifies
        // the password.
        let changed_at = now.max(account.password_changed_at + Duration::from_micros(1));
        let payload = Payload::PasswordChanged { changed_at };
        let event = Event::new(account.user_id, payload, &call.act(now));
        let new = NewHash {
            hash: hash.as_str(),
            changed_at,
            event: &event,
        };
        let end = self.end(SessionEndReason::PasswordChanged);
        let changed = self
            .db
            .change_password(account, caller.session_id, &new, end);
        done(changed.await?, audit)?;
        self.committed(&event);
        audit.ok();
        Ok(())
    }
}
