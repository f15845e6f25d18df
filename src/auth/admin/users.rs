use std::fmt::{self, Debug};

use super::{Admin, known};
use crate::{
    auth::{Call, Error},
    model::{CountedUser, Email, Event, Payload, SessionEndReason, UserId},
    telemetry::audit,
};

/// An account by its id or its address.
#[derive(Clone, PartialEq, Eq)]
pub enum UserRef {
    Id(UserId),
    Email(Email),
}

/// Without the address.
impl Debug for UserRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Email(_) => f.write_str("Email(..)"),
        }
    }
}

impl Admin {
    /// The id of the account that an act is about. An unknown address is audited as the failure
    /// of that act.
    pub async fn user_id(
        &self,
        user: &UserRef,
        act: audit::Event,
        call: &Call,
    ) -> Result<UserId, Error> {
        match user {
            UserRef::Id(id) => Ok(*id),
            UserRef::Email(email) => {
                let found = self.db.find_user_id(email.as_str()).await?;
                known(found, call.audit(act))
            }
        }
    }

    pub async fn get_user(&self, user: &UserRef, call: &Call) -> Result<CountedUser, Error> {
        let event = audit::Event::GetUser;
        let id = self.user_id(user, event, call).await?;
        let audit = call.audit(event).user(id);
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
        known(self.db.delete_user(&event, end).await?, audit)?;
        self.done(audit);
        Ok(())
    }
}
