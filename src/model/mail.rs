//! Mails that the service asks for, and their tokens.
//!
//! A request becomes a mail when the mailer claims it. Each claim makes a token, whose life
//! counts from then: a mailer or a Kafka that was down costs the user nothing. A repeated claim,
//! since events may be delivered again, makes another token for the same request. One act uses
//! the request up, and all its tokens with it.
//!
//! A token is `rcm_` and the unpadded base64url of 32 random bytes and their CRC-32. The database
//! keeps only its SHA-256.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Locale, MailRequestId, SessionId, Timestamp, UserId};

/// How many changes of the address an account can have in [`CHANGES_COUNT_FOR`]. Each reserves an
/// address.
pub const MAX_CHANGES: usize = 3;
pub const CHANGES_COUNT_FOR: Duration = Duration::from_hours(7 * 24);

/// How often a request can be claimed.
pub const MAX_CLAIMS: i64 = 3;

const PREFIX: &str = "rcm_";
const SECRET: usize = 32;
const CHECKSUM: usize = 4;
const LENGTH: usize = SECRET + CHECKSUM;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailPurpose {
    /// To an address that was registered.
    VerifyEmail,
    ResetPassword,
    /// To the new address.
    ChangeEmail,
    /// To the old address.
    RevertEmail,
}

impl MailPurpose {
    /// The mails that a new password or address makes void, as in the column `purpose`. A newer
    /// version may know others.
    pub const VOIDABLE: [&str; 3] = [
        Self::VerifyEmail.as_str(),
        Self::ResetPassword.as_str(),
        Self::ChangeEmail.as_str(),
    ];

    /// The mails that a suspension makes void: with them somebody who has taken the account over
    /// could go on.
    pub const ENDS_WITH_SUSPENSION: [&str; 2] =
        [Self::ResetPassword.as_str(), Self::ChangeEmail.as_str()];

    /// The value of the column `purpose`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
            Self::RevertEmail => "revert_email",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::VerifyEmail,
            Self::ResetPassword,
            Self::ChangeEmail,
            Self::RevertEmail,
        ];
        all.into_iter().find(|purpose| purpose.as_str() == text)
    }

    /// Whether a new password makes it void.
    pub const fn ends_with_password(self) -> bool {
        !matches!(self, Self::RevertEmail)
    }

    /// How long a request can be claimed.
    pub const fn claim_life(self) -> Duration {
        match self {
            Self::VerifyEmail | Self::ResetPassword | Self::ChangeEmail => Duration::from_hours(24),
            Self::RevertEmail => CHANGES_COUNT_FOR,
        }
    }

    /// The life of a token, from its claim.
    pub const fn token_life(self) -> Duration {
        match self {
            Self::VerifyEmail | Self::ChangeEmail => Duration::from_hours(24),
            Self::ResetPassword => Duration::from_mins(30),
            Self::RevertEmail => CHANGES_COUNT_FOR,
        }
    }
}

/// A mail that an act asks for.
#[derive(Clone)]
pub struct MailRequest {
    pub id: MailRequestId,
    pub purpose: MailPurpose,
    /// The address that the mail goes to.
    pub email: String,
    /// `None`: the one of the account.
    pub locale: Option<Locale>,
    pub requested_at: Timestamp,
    /// The session that asked, if it goes on after the act.
    pub session_id: Option<SessionId>,
}

impl MailRequest {
    pub fn new(
        purpose: MailPurpose,
        email: String,
        locale: Option<Locale>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: MailRequestId::new(now),
            purpose,
            email,
            locale,
            requested_at: now,
            session_id: None,
        }
    }

    /// The last moment to claim it.
    pub fn claim_until(&self) -> Timestamp {
        self.requested_at + self.purpose.claim_life()
    }
}

/// A mail that was claimed.
pub struct ClaimedMail {
    pub purpose: MailPurpose,
    pub user_id: UserId,
    pub email: String,
    pub locale: Option<String>,
    pub requested_at: Timestamp,
}

/// The secret in a mail.
pub struct MailToken {
    /// Boxed, because a value that is moved leaves copies in memory.
    secret: SecretBox<[u8; SECRET]>,
}

impl MailToken {
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = Box::new([0; SECRET]);
        getrandom::fill(&mut *secret)?;
        let secret = SecretBox::new(secret);
        Ok(Self { secret })
    }

    /// `None` unless prefix, length, alphabet and checksum are right.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let encoded = text.strip_prefix(PREFIX)?;
        let length = BASE64URL.decode_slice(encoded, &mut *bytes).ok()?;
        let (secret, checksum) = bytes.split_first_chunk::<SECRET>()?;
        if length != LENGTH || crc32fast::hash(secret).to_be_bytes() != *checksum {
            return None;
        }
        let copy = |bytes: &mut [u8; SECRET]| bytes.copy_from_slice(secret);
        let secret = SecretBox::init_with_mut(copy);
        Some(Self { secret })
    }

    pub fn expose(&self) -> SecretString {
        let secret = self.secret.expose_secret();
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        bytes.extend_from_slice(secret);
        bytes.extend_from_slice(&crc32fast::hash(secret).to_be_bytes());
        let mut encoded = BASE64URL.encode(&*bytes);
        let text = format!("{PREFIX}{encoded}");
        encoded.zeroize();
        text.into()
    }

    /// SHA-256 of the secret: finds the request.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose_secret()).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        let token = MailToken::generate().unwrap();
        let text = token.expose();
        let text = text.expose_secret();
        assert_eq!(text.len(), 4 + 48);
        assert_eq!(MailToken::parse(text).unwrap().hash(), token.hash());
    }

    #[test]
    fn the_text_is_what_the_design_says() {
        let secret = SecretBox::new(Box::new([7; SECRET]));
        let bytes = [&[7; 32][..], &crc32fast::hash(&[7; 32]).to_be_bytes()].concat();
        let text = MailToken { secret }.expose();
        let expected = format!("rcm_{}", BASE64URL.encode(bytes));
        assert_eq!(text.expose_secret(), expected);
    }

    #[test]
    fn a_changed_character_is_refused() {
        let text = MailToken::generate().unwrap().expose();
        let text = text.expose_secret();
        for position in 0..text.len() {
            let mut changed = text.to_owned().into_bytes();
            // Replaces A by B, and everything else by A.
            changed[position] = b'A' + u8::from(changed[position] == b'A');
            let changed = String::from_utf8(changed).unwrap();
            assert!(MailToken::parse(&changed).is_none(), "at {position}");
        }
        assert!(MailToken::parse(&text[..text.len() - 1]).is_none());
        assert!(MailToken::parse(&format!("{text}A")).is_none());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(rcm_)?[A-Za-z0-9_-]{0,60}") {
            let _ = MailToken::parse(&text);
        }
    }
}
