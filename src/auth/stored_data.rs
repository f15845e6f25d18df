//! How password hashes and refresh tokens are made and read: with `DATA_KEY`, and during a
//! [`Transition`](crate::model::Transition) in the form of the release before.

use super::{Auth, Error, Fault};
use crate::{
    model::{Credentials, Form, RefreshToken, StoredHash, Timestamp, UserId},
    password::PasswordHash,
};

impl Auth {
    /// `None` for a token that this service did not make. The database is not asked.
    pub fn parse_refresh_token(&self, text: &str) -> Option<RefreshToken> {
        RefreshToken::parse(text, self.accepted_forms(self.clock.now()))
    }

    pub(super) fn accepted_forms(&self, now: Timestamp) -> impl Iterator<Item = Form<'_>> {
        self.transition.accepted(&self.data_keys, now)
    }

    /// The form of what is written.
    pub(super) fn form(&self, now: Timestamp) -> Form<'_> {
        self.transition.form(&self.data_keys, now)
    }

    pub(super) fn stored_hash(
        &self,
        hash: &PasswordHash,
        user_id: UserId,
    ) -> Result<StoredHash, Error> {
        stored_hash(hash, user_id, self.form(self.clock.now()))
    }

    /// `None` for an account without a usable password. A seal that does not open is a fault,
    /// never a wrong password.
    pub(super) fn open_hash(&self, found: &Credentials) -> Result<Option<PasswordHash>, Fault> {
        let stored = &found.password_hash;
        if StoredHash::is_unusable(stored) {
            return Ok(None);
        }
        let opened = self.data_keys.open_hash(stored, found.user_id);
        let hash = opened.ok_or(Fault::Corrupt(
            "password seal, or one of an unknown DATA_KEY",
        ))?;
        let hash = PasswordHash::parse(&hash).ok_or(Fault::Corrupt("password hash"))?;
        Ok(Some(hash))
    }
}

/// A hash as it is stored in this form.
pub(super) fn stored_hash(
    hash: &PasswordHash,
    user_id: UserId,
    form: Form<'_>,
) -> Result<StoredHash, Error> {
    Ok(StoredHash::new(hash.as_str(), user_id, form)?)
}
