use super::{Roles, Suspension, Timestamp, UserId};

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
    pub roles: Roles,
}

/// What access tokens say about an account.
#[derive(Clone, Default)]
pub struct AccountClaims {
    pub email_verified: bool,
    pub roles: Roles,
}

/// The account data that a password check needs.
pub struct Credentials {
    pub user_id: UserId,
    /// As the database keeps it: see `password_seal`.
    pub password_hash: String,
    pub password_changed_at: Timestamp,
    pub claims: AccountClaims,
    /// It may have ended.
    pub suspension: Option<Suspension>,
}

impl Account {
    pub fn claims(&self) -> AccountClaims {
        AccountClaims {
            email_verified: self.email_verified_at.is_some(),
            roles: self.roles.clone(),
        }
    }
}
