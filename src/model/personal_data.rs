use super::{EventId, MailRequestId, SessionId, Timestamp, User};

/// The rows about a user, without hashes and tokens, without the counters of failed logins, which
/// are kept under keyed hashes, and without revocations, which repeat the ends of sessions.
pub struct PersonalData {
    pub user: User,
    /// The language of mails.
    pub locale: Option<String>,
    /// Live ones, and ended ones that are not deleted yet. The newest first.
    pub sessions: Vec<KeptSession>,
    /// Also those that were asked for before the address had an account. The newest first.
    pub mails: Vec<KeptMail>,
    /// Not published yet, in the order of their versions.
    pub events: Vec<KeptEvent>,
}

pub struct KeptSession {
    pub id: SessionId,
    pub device_name: Option<String>,
    pub created_at: Timestamp,
    pub rotated_at: Timestamp,
    /// The earlier of the sliding and the absolute end.
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// As in the column `revoke_reason`.
    pub revoke_reason: Option<String>,
}

pub struct KeptMail {
    pub id: MailRequestId,
    /// As in the column `purpose`.
    pub purpose: String,
    /// The address that the mail goes to.
    pub email: String,
    pub locale: Option<String>,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
}

pub struct KeptEvent {
    pub id: EventId,
    pub event_type: String,
    pub user_version: i64,
    pub occurred_at: Timestamp,
    /// The encoded `UserEvent`.
    pub payload: Vec<u8>,
}
