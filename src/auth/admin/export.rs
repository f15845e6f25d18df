//! All accounts for another system, and all data of one user for a request of that person.

use zeroize::Zeroizing;

use super::{Admin, PageRequest, known};
use crate::{
    auth::{Call, Error},
    model::{PersonalData, StoredHash, User, UserId},
    password::PasswordHash,
    telemetry::audit,
};

/// Whether an export has the password hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashes {
    Opened,
    LeftOut,
}

/// Accounts in the order of their ids.
pub struct ExportPage {
    pub users: Vec<ExportedUser>,
    /// Whether there are accounts after these.
    pub has_next: bool,
}

pub struct ExportedUser {
    pub user: User,
    /// `None` without a usable password, or if hashes are left out.
    pub password_hash: Option<Zeroizing<String>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(
        "the password hash of user {0} cannot be read: its seal is of another key (add it to \
         DATA_PREVIOUS_KEYS), or the row is damaged (then make it unusable: `users \
         invalidate-password`)"
    )]
    UnreadableHash(UserId),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Admin {
    /// Writes the audit line of an export, which then reads page by page.
    pub fn begin_export(&self, hashes: Hashes, call: &Call) {
        let audit = call.audit(audit::Event::ExportUsers);
        match hashes {
            Hashes::Opened => audit.because("with password hashes").ok(),
            Hashes::LeftOut => audit.ok(),
        }
    }

    /// Accounts that are created or deleted meanwhile may be missing.
    pub async fn export_page(
        &self,
        page: PageRequest,
        hashes: Hashes,
    ) -> Result<ExportPage, ExportError> {
        let size = page.size as usize;
        let users = self.db.users_after(page.after, page.size.saturating_add(1));
        let mut users = users.await.map_err(Error::from)?;
        let has_next = users.len() > size;
        users.truncate(size);
        let users = users.into_iter().map(|user| {
            let password_hash = match hashes {
                Hashes::Opened => self.open_hash(&user)?,
                Hashes::LeftOut => None,
            };
            Ok(ExportedUser {
                user,
                password_hash,
            })
        });
        let users = users.collect::<Result<_, ExportError>>()?;
        Ok(ExportPage { users, has_next })
    }

    fn open_hash(&self, user: &User) -> Result<Option<Zeroizing<String>>, ExportError> {
        if StoredHash::is_unusable(&user.password_hash) {
            return Ok(None);
        }
        let opened = self.data_keys.open_hash(&user.password_hash, user.id);
        let opened = opened.filter(|hash| PasswordHash::parse(hash).is_some());
        opened.map_or(Err(ExportError::UnreadableHash(user.id)), |hash| {
            Ok(Some(hash))
        })
    }

    /// The rows about a user, without secrets.
    pub async fn personal_data(&self, id: UserId, call: &Call) -> Result<PersonalData, Error> {
        let audit = call.audit(audit::Event::ExportUsers).user(id);
        let data = known(self.db.personal_data(id).await?, audit)?;
        audit.ok();
        Ok(data)
    }
}
