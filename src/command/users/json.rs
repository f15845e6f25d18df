//! The JSON of `--json`. Fields have the names of the messages of `AdminService`, and an absent one
//! is left out.

use auth_service::model::{CountedUser, Suspension, Timestamp};
use serde::{Serialize, Serializer};

#[derive(Serialize)]
pub(super) struct Account<'a> {
    user_id: String,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified_at: Option<Time>,
    created_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_changed_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspension: Option<SuspendedFor<'a>>,
    roles: Vec<&'a str>,
    roles_version: i64,
    sessions: usize,
    event_version: i64,
}

#[derive(Serialize)]
pub(super) struct SuspendedFor<'a> {
    reason: &'a str,
    since: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

/// In RFC 3339.
pub(super) struct Time(pub(super) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'a> Account<'a> {
    pub(super) fn new(CountedUser { user, sessions }: &'a CountedUser, now: Timestamp) -> Self {
        Self {
            user_id: user.id.to_string(),
            email: &user.email,
            email_verified_at: user.email_verified_at.map(Time),
            created_at: Time(user.created_at),
            password_changed_at: user.usable_password_set_at().map(Time),
            suspension: user.suspension_in_force(now).map(SuspendedFor::new),
            roles: user.roles.iter().collect(),
            roles_version: user.roles_version,
            sessions: *sessions,
            event_version: user.event_version,
        }
    }
}

impl<'a> SuspendedFor<'a> {
    pub(super) fn new(suspension: &'a Suspension) -> Self {
        Self {
            reason: &suspension.reason,
            since: Time(suspension.since),
            until: suspension.until.map(Time),
        }
    }
}
