//! The rules for new passwords: NIST SP 800-63B's minimum of 8 characters, bcrypt's maximum of
//! 72 bytes (a longer one is refused, never cut), not guessable, and not on the list of leaked
//! passwords if one is configured.
//!
//! zxcvbn judges how guessable a password is. Rules on character classes would forbid good
//! passwords and allow `Password1!`. Login does not use the policy, because it may have been
//! different when the password was set.

use std::{sync::Arc, time::Duration};

use bcrypt_lanes::Key;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};
use zxcvbn::zxcvbn;

use super::{Blocklist, BlocklistError, MAX_BYTES, Password, Settings, stack};

const MIN_CHARS: usize = 8;

/// The characters that zxcvbn sees. It tries every substitution of letters at every position, so
/// a crafted password of 72 bytes takes as long as a bcrypt hash. Random text gets the best score
/// with half as many characters.
const JUDGED_CHARS: usize = 24;

#[derive(Clone, Debug)]
pub struct Policy {
    min_score: u8,
    blocklist: Option<Arc<Blocklist>>,
    /// One password is judged at a time. A crafted password takes tens of milliseconds, and a
    /// flood of them must not take all cores from cheap calls.
    one_at_a_time: Arc<Semaphore>,
    max_wait: Duration,
}

impl Policy {
    pub fn new(settings: &Settings) -> Self {
        Self {
            min_score: settings.min_score,
            blocklist: settings.blocklist.clone(),
            one_at_a_time: Arc::new(Semaphore::new(1)),
            max_wait: settings.max_wait,
        }
    }

    /// The only constructor of [`NewPassword`]. `email` is the account's address, which attackers
    /// try first.
    pub async fn check(
        &self,
        password: Password,
        email: &str,
    ) -> Result<Result<NewPassword, Weakness>, PolicyError> {
        let permit = Arc::clone(&self.one_at_a_time).acquire_owned();
        let Ok(permit) = timeout(self.max_wait, permit).await else {
            let retry_after = self.max_wait;
            return Err(PolicyError::Overloaded { retry_after });
        };
        let permit = permit.expect("the semaphore is never closed");
        let (min_score, blocklist) = (self.min_score, self.blocklist.clone());
        let email = email.to_owned();
        // The task holds the permit: the next call waits for its end even if this caller leaves.
        let verdict = spawn_blocking(move || {
            let verdict = Self::judge(min_score, blocklist.as_deref(), password, &email, permit);
            stack::wipe();
            verdict
        });
        Ok(verdict.await.expect("zxcvbn does not panic")?)
    }

    #[inline(never)]
    fn judge(
        min_score: u8,
        blocklist: Option<&Blocklist>,
        password: Password,
        email: &str,
        permit: OwnedSemaphorePermit,
    ) -> Result<Result<NewPassword, Weakness>, BlocklistError> {
        let verdict = Self::verdict(min_score, password, email);
        // Searching the list needs the disk, not a core.
        drop(permit);
        if let (Ok(new), Some(blocklist)) = (&verdict, blocklist)
            && blocklist.contains(&Sha1::digest(new.0.0.as_bytes()).into())?
        {
            return Ok(Err(Weakness::Leaked));
        }
        Ok(verdict)
    }

    pub(super) fn verdict(
        min_score: u8,
        password: Password,
        email: &str,
    ) -> Result<NewPassword, Weakness> {
        let text = password.0.as_str();
        if text.chars().count() < MIN_CHARS {
            return Err(Weakness::TooShort);
        }
        if text.len() > MAX_BYTES {
            return Err(Weakness::TooLong);
        }
        if text.contains('\0') {
            return Err(Weakness::Nul);
        }
        let local_part = email.split('@').next().unwrap_or(email);
        let known = [beginning(email), local_part];
        if u8::from(zxcvbn(beginning(text), &known).score()) < min_score {
            return Err(Weakness::Guessable);
        }
        Ok(NewPassword(password))
    }
}

fn beginning(text: &str) -> &str {
    let end = text.char_indices().nth(JUDGED_CHARS);
    end.map_or(text, |(end, _)| &text[..end])
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

/// Why a password, in its normal form, cannot be set. The text is for the user and never contains
/// the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    #[error("must have at least {MIN_CHARS} characters")]
    TooShort,
    #[error("must have at most {MAX_BYTES} bytes in UTF-8")]
    TooLong,
    /// bcrypt would end the password there.
    #[error("must not contain a NUL character")]
    Nul,
    #[error("is too easy to guess")]
    Guessable,
    #[error("is on a list of leaked passwords")]
    Leaked,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("too busy to judge a password in time")]
    Overloaded { retry_after: Duration },
    #[error(transparent)]
    Blocklist(#[from] BlocklistError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<(), Weakness> {
        let email = "rosalind.elsie@example.com";
        Policy::verdict(2, Password::of(text), email).map(|_| ())
    }

    #[test]
    fn the_policy_counts_characters_below_and_bytes_above() {
        let kanji = "漢字仮名交文学".repeat(3) + "漢字仮";
        let table = [
            ("vK3#qT9", Err(Weakness::TooShort)),
            ("vK3#qT9z", Ok(())),
            // 8 characters, but 7 once the accent is composed
            ("vK3#qTe\u{301}", Err(Weakness::TooShort)),
            (&"vK3#qT9z".repeat(9), Ok(())),
            (&("vK3#qT9z".repeat(9) + "x"), Err(Weakness::TooLong)),
            // 24 characters of 3 bytes: 72 bytes; and one byte more
            (&kanji, Ok(())),
            (&(kanji.clone() + "x"), Err(Weakness::TooLong)),
            ("vK3#q\0T9z", Err(Weakness::Nul)),
            ("password", Err(Weakness::Guessable)),
            ("Password1", Err(Weakness::Guessable)),
            ("aaaaaaaaaaaa", Err(Weakness::Guessable)),
        ];
        for (text, expected) in table {
            assert_eq!(check(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_email_and_its_local_part_are_guessable() {
        for text in [
            "rosalind.elsie@example.com",
            "Rosalind.Elsie",
            "rosalind.elsie1",
            "rosalind.elsie@example.com1",
        ] {
            assert_eq!(check(text), Err(Weakness::Guessable), "{text:?}");
            let other_account = Policy::verdict(2, Password::of(text), "someone@example.org");
            assert!(other_account.is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_long_password_is_judged_by_its_beginning() {
        let guessable = "password".repeat(3) + "vK3#qT9z";
        assert_eq!(check(&guessable), Err(Weakness::Guessable));
        let strict = |text: &str| Policy::verdict(4, Password::of(text), "");
        assert!(strict(&"vK3#qT9z".repeat(9)).is_err());
        assert!(strict("vK3#qT9zLw7!pX2m").is_ok());
    }

    #[test]
    fn a_minimum_score_of_zero_turns_guessing_off() {
        assert!(Policy::verdict(0, Password::of("password"), "a@b.c").is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_gets_an_answer_and_what_passes_can_be_hashed(text in ".{0,40}") {
            if let Ok(new) = Policy::verdict(2, Password::of(&text), "a@example.com") {
                new.key();
            }
        }
    }
}
