//! The rules for new passwords: NIST SP 800-63B's minimum of 8 characters, bcrypt's maximum of
//! 72 bytes (a longer one is refused, never cut), the characters of `OpaqueString`, not
//! guessable, and not on the list of leaked passwords if one is configured.
//!
//! [`guessability`] estimates how guessable a password is. Rules on character classes would
//! forbid good passwords and allow `Password1!`. Login does not use the policy, because it may
//! have been different when the password was set.

use std::{io, sync::Arc, time::Duration};

use bcrypt_lanes::Key;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    Blocklist, BlocklistError, MAX_BYTES, Password, Priority, Request, Settings,
    checkers::Checkers, guessability, opaque_string::is_freeform,
};

const MIN_CHARS: usize = 8;

#[derive(Clone, Debug)]
pub struct Policy {
    rules: Arc<Rules>,
    checkers: Checkers,
    /// One permit for each thread of `checkers`: the wait for a thread is bounded, and not the
    /// time that a password takes on it.
    free: Arc<Semaphore>,
    /// One permit: only one of the other callers waits for a thread, all others behind it. A known
    /// device therefore waits for at most one of them.
    first_of_others: Arc<Semaphore>,
    blocklist: Option<Arc<Blocklist>>,
    max_wait: Duration,
}

/// The rules that need neither the disk nor other passwords.
#[derive(Debug)]
struct Rules {
    min_score: u8,
    context_words: Vec<String>,
}

impl Policy {
    /// Starts the threads that check, as many as there are for hashing.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let rules = Rules {
            min_score: settings.min_score,
            context_words: settings.context_words.clone(),
        };
        Ok(Self {
            rules: Arc::new(rules),
            checkers: Checkers::start(settings.threads)?,
            free: Arc::new(Semaphore::new(settings.threads.get())),
            first_of_others: Arc::new(Semaphore::new(1)),
            blocklist: settings.blocklist.clone(),
            max_wait: settings.max_wait,
        })
    }

    /// The only constructor of [`NewPassword`]. `email` is the account's address, which
    /// attackers try first. Waits for a thread until the deadline or the configured maximum.
    pub async fn check(
        &self,
        password: Password,
        email: &str,
        request: &Request,
    ) -> Result<Result<NewPassword, Weakness>, PolicyError> {
        let permit = self.thread(request.priority);
        let deadline = request.deadline.min(Instant::now() + self.max_wait);
        let Ok(permit) = timeout_at(deadline, permit).await else {
            let retry_after = self.max_wait;
            return Err(PolicyError::Overloaded { retry_after });
        };
        let (rules, email) = (Arc::clone(&self.rules), email.to_owned());
        // The job holds the permit: its thread is busy even if this caller leaves.
        let checked = self.checkers.run(move || {
            let verdict = rules.verdict(password, &email);
            drop(permit);
            verdict
        });
        match checked.await.expect("a check does not panic") {
            Ok(new) => Ok(self.search(new).await?),
            Err(weakness) => Ok(Err(weakness)),
        }
    }

    /// Waits for a free thread.
    async fn thread(&self, priority: Priority) -> OwnedSemaphorePermit {
        const OPEN: &str = "the semaphore is never closed";
        let _first = match priority {
            Priority::KnownDevice(_) => None,
            Priority::Other => Some(self.first_of_others.acquire().await.expect(OPEN)),
        };
        Arc::clone(&self.free).acquire_owned().await.expect(OPEN)
    }

    /// Searches the list of leaked passwords, which needs the disk and not a core.
    async fn search(
        &self,
        new: NewPassword,
    ) -> Result<Result<NewPassword, Weakness>, BlocklistError> {
        let Some(blocklist) = self.blocklist.clone() else {
            return Ok(Ok(new));
        };
        let hash = Sha1::digest(new.0.0.as_bytes()).into();
        let searched = spawn_blocking(move || blocklist.contains(&hash));
        let is_leaked = searched.await.expect("the search does not panic")?;
        Ok(if is_leaked {
            Err(Weakness::Leaked)
        } else {
            Ok(new)
        })
    }
}

impl Rules {
    fn verdict(&self, password: Password, email: &str) -> Result<NewPassword, Weakness> {
        let text = password.0.as_str();
        if text.len() > MAX_BYTES {
            return Err(Weakness::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(Weakness::Control);
        }
        if !is_freeform(text) {
            return Err(Weakness::Character);
        }
        if text.chars().count() < MIN_CHARS {
            return Err(Weakness::TooShort);
        }
        let words = guessability::known_words(email, &self.context_words);
        if !guessability::withstands(text, self.min_score, &words) {
            return Err(Weakness::Guessable);
        }
        Ok(NewPassword(password))
    }
}

/// A password that passed the [`Policy`].
pub struct NewPassword(Password);

impl NewPassword {
    pub fn is(&self, other: &Password) -> bool {
        self.0.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    pub(super) fn key(&self) -> Key {
        self.0.key().expect("the policy refuses what cannot match")
    }
}

/// Why a password, in its normal form, cannot be set. The text is for the user and never
/// contains the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    #[error("must have at least {MIN_CHARS} characters")]
    TooShort,
    #[error("must have at most {MAX_BYTES} bytes in UTF-8")]
    TooLong,
    /// Mostly a line break that was copied as well.
    #[error("must not contain control characters, such as a line break or a tab")]
    Control,
    #[error("must not contain characters that are invisible or not defined in Unicode")]
    Character,
    #[error("is too easy to guess")]
    Guessable,
    #[error("is on a list of leaked passwords")]
    Leaked,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("too busy to check a password in time")]
    Overloaded { retry_after: Duration },
    #[error(transparent)]
    Blocklist(#[from] BlocklistError),
}

#[cfg(test)]
pub(super) fn new_password(text: &str) -> NewPassword {
    let rules = Rules {
        min_score: 0,
        context_words: Vec::new(),
    };
    match rules.verdict(Password::of(text), "") {
        Ok(new) => new,
        Err(weakness) => panic!("a valid password, not {weakness}"),
    }
}

#[cfg(test)]
mod tests;
