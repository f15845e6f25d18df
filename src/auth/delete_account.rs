use super::{
    Auth, Call, Error,
    caller::{Caller, done},
    credentials::Claim,
};
use crate::{
    model::{Event, Payload, SessionEndReason},
    password::Password,
    telemetry::audit,
};

impl Auth {
    /// Deletes the account with its sessions. Its events stay until they are published: one for
    /// each session, and the last one says that the account is deleted.
    pub async fn delete_account(
        &self,
        caller: &Caller,
        current: &Password,
        call: &Call,
    ) -> Result<(), Error> {
        let account = &caller.account;
        let audit = caller.audit(audit::Event::DeleteAccount, call);
        let claim = Claim::SignedIn(caller);
        self.check_password(claim, current, call, audit).await?;
        let now = self.clock.now();
        let event = Event::new(account.user_id, Payload::UserDeleted, &call.act(now));
        let end = self.end(SessionEndReason::AccountDeleted);
        let deleted = (self.db).delete_account(account, caller.session_id, &event, end);
        done(deleted.await?, audit)?;
        self.committed(&event);
        audit.ok();
        Ok(())
    }
}
