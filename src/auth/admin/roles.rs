use super::Admin;
use crate::{
    auth::{Call, Error},
    db::SetRoles,
    model::{Roles, UserId},
    telemetry::audit::{self, Reason},
};

impl Admin {
    /// Replaces the roles if they have the expected version, and returns the next one. `None`
    /// expects any.
    pub async fn set_roles(
        &self,
        id: UserId,
        roles: &Roles,
        expected: Option<i64>,
        call: &Call,
    ) -> Result<i64, Error> {
        let audit = call.audit(audit::Event::SetRoles).user(id);
        let act = call.admin_act(self.clock.now());
        match self.db.set_roles(id, roles, expected, &act).await? {
            SetRoles::Set(version) => {
                self.done(audit);
                Ok(version)
            }
            SetRoles::Conflict => {
                audit.failed(Reason::VersionConflict);
                Err(Error::VersionConflict)
            }
            SetRoles::UnknownUser => {
                audit.failed(Reason::UnknownUser);
                Err(Error::UserNotFound)
            }
        }
    }
}
