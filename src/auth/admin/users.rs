use super::{Admin, known};
use crate::{
    auth::{Call, Error},
    model::{CountedUser, Email, Event, Payload, SessionEndReason, UserId},
    telemetry::audit,
};

/// An account by its id or its address.
pub enum UserRef {
    Id(UserId),
    Email(Email),
}

impl Admin {
    pub async fn get_user(&self, user: &UserRef, call: &Call) -> Result<CountedUser, Error> {
        let audit = call.audit(audit::Event::GetUser);
        let id = match user {
            UserRef::Id(id) => *id,
            UserRef::Email(email) => known(self.db.find_user_id(email.as_str()).await?, audit)?,
        };
        let audit = audit.user(id);
        let found = known(self.db.find_user(id, self.clock.now()).await?, audit)?;
        audit.ok();
        Ok(found)
    }

    /// Deletes an account with its sessions.
    pub async fn delete_user(&self, id: UserId, call: &Call) -> Result<(), Error> {
        let audit = call.audit(audit::Event::DeleteUser).user(id);
        let act = call.admin_act(self.clock.now());
        let event = Event::new(id, Payload::UserDeleted, &act);
        let end = self.end(SessionEndReason::AccountDeleted);
        let deleted = self.db.delete_user(&event, end).await?;
        known(deleted.then_some(()), audit)?;
        self.done(audit);
        Ok(())
    }
}
