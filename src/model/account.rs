use super::{Timestamp, UserId};

pub struct Account {
    pub user_id: UserId,
    /// The normalised address.
    pub email: String,
    pub created_at: Timestamp,
    /// When the password was set. It identifies the password: no two passwords of an account
    /// have the same time.
    pub password_changed_at: Timestamp,
    /// When a mail last proved the address.
    pub email_verified_at: Option<Timestamp>,
}

/// The account data that a password check needs.
pub struct Credentials {
    pub user_id: UserId,
    /// As the database keeps it: see `password_seal`.
    pub password_hash: String,
    pub password_changed_at: Timestamp,
    pub email_verified_at: Option<Timestamp>,
}
