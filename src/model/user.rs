use super::{Roles, StoredHash, Suspension, Timestamp, UserId};

/// An account, as administrators see it.
pub struct User {
    pub id: UserId,
    /// The normalised address.
    pub email: String,
    /// As the database keeps it: see `password_seal`.
    pub password_hash: String,
    pub created_at: Timestamp,
    pub password_changed_at: Timestamp,
    pub email_verified_at: Option<Timestamp>,
    /// It may have ended.
    pub suspension: Option<Suspension>,
    pub roles: Roles,
    /// Counts the changes of the roles.
    pub roles_version: i64,
    /// The version of the last event.
    pub event_version: i64,
}

/// An account and the number of its live sessions.
pub struct CountedUser {
    pub user: User,
    pub sessions: usize,
}

impl User {
    /// When the password was set. `None` without a usable one.
    pub fn usable_password_set_at(&self) -> Option<Timestamp> {
        (!StoredHash::is_unusable(&self.password_hash)).then_some(self.password_changed_at)
    }

    pub fn suspension_in_force(&self, now: Timestamp) -> Option<&Suspension> {
        self.suspension.as_ref().filter(|it| it.is_in_force(now))
    }
}
