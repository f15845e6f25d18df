//! Tokens that mark a device on which an account logged in before (the device cookie of OWASP).
//!
//! A token is `rcd_` and the unpadded base64url of: version (1 byte), nonce (16 bytes, names the
//! device), day (4 bytes, days since 1970, big-endian), tag (16 bytes), and a CRC-32 of all
//! before it. The tag is an HMAC over the account, its password and the other parts. The token
//! opens nothing by itself, needs no row, and ends with its password.

use std::{
    fmt::{self, Debug},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use subtle::ConstantTimeEq as _;

use super::{DataKey, DataKeys, Timestamp, UserId};

const PREFIX: &str = "rcd_";
const VERSION: u8 = 1;
const NONCE: usize = 16;
const TAG: usize = 16;
const BODY: usize = 1 + NONCE + 4 + TAG;
const LENGTH: usize = BODY + 4;

const DAY: u64 = 24 * 60 * 60;

/// A well-formed device token, genuine or not.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceToken {
    nonce: [u8; NONCE],
    day: u32,
    tag: [u8; TAG],
}

/// The login that a device token marks: the account, and its password at that time.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLogin {
    pub user_id: UserId,
    pub password_changed_at: Timestamp,
}

/// A reader of a token can hold its device back: it is not printed.
impl Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceToken(..)")
    }
}

impl DeviceToken {
    /// A token for a new device.
    pub fn generate(
        key: &DataKey,
        login: DeviceLogin,
        now: Timestamp,
    ) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        Ok(Self::new(key, nonce, login, now))
    }

    /// A token with a new day for the same device.
    #[must_use]
    pub fn renew(&self, key: &DataKey, login: DeviceLogin, now: Timestamp) -> Self {
        Self::new(key, self.nonce, login, now)
    }

    fn new(key: &DataKey, nonce: [u8; NONCE], login: DeviceLogin, now: Timestamp) -> Self {
        let day = day(now);
        let tag = tag(key, nonce, day, login);
        Self { nonce, day, tag }
    }

    /// `None` unless prefix, length, alphabet, checksum and version are right.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; LENGTH];
        let encoded = text.strip_prefix(PREFIX)?;
        let length = BASE64URL.decode_slice(encoded, &mut bytes).ok()?;
        let (body, checksum) = bytes.split_first_chunk::<BODY>()?;
        if length != LENGTH || crc32fast::hash(body).to_be_bytes() != checksum {
            return None;
        }
        let (version, rest) = body.split_first()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (day, tag) = rest.split_first_chunk()?;
        let token = Self {
            nonce: *nonce,
            day: u32::from_be_bytes(*day),
            tag: tag.try_into().ok()?,
        };
        (*version == VERSION).then_some(token)
    }

    pub fn expose(&self) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend(self.nonce);
        bytes.extend(self.day.to_be_bytes());
        bytes.extend(self.tag);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        format!("{PREFIX}{}", BASE64URL.encode(bytes))
    }

    /// Whether this service made the token for this account and password, at most `ttl` ago. A
    /// day of tomorrow is accepted: the clock of the issuing replica may be ahead.
    pub fn is_genuine(
        &self,
        keys: &DataKeys,
        login: DeviceLogin,
        now: Timestamp,
        ttl: Duration,
    ) -> bool {
        let expected = keys.all().map(|key| tag(key, self.nonce, self.day, login));
        // Tries all keys, so the time does not depend on which one made it.
        let is_ours = expected.fold(subtle::Choice::from(0), |found, expected| {
            found | expected.ct_eq(&self.tag)
        });
        let (made, today) = (u64::from(self.day), u64::from(day(now)));
        let is_young = made <= today + 1 && today.saturating_sub(made) <= ttl.as_secs() / DAY;
        bool::from(is_ours) && is_young
    }

    /// Names the device, for its counter.
    pub const fn device(&self) -> &[u8; NONCE] {
        &self.nonce
    }
}

fn tag(key: &DataKey, nonce: [u8; NONCE], day: u32, login: DeviceLogin) -> [u8; TAG] {
    key.device_token.tag(&[
        &[VERSION],
        login.user_id.as_bytes(),
        &login.password_changed_at.as_micros().to_be_bytes(),
        &nonce,
        &day.to_be_bytes(),
    ])
}

/// Days since 1970.
fn day(now: Timestamp) -> u32 {
    let seconds = u64::try_from(now.as_secs()).unwrap_or_default();
    u32::try_from(seconds / DAY).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_000);
    const MICROSECOND: Duration = Duration::from_micros(1);
    const ONE_DAY: Duration = Duration::from_hours(24);
    const TTL: Duration = Duration::from_hours(90 * 24);

    fn login() -> DeviceLogin {
        DeviceLogin {
            user_id: UserId::new(NOW),
            password_changed_at: NOW,
        }
    }

    #[test]
    fn a_token_survives_its_text() {
        let keys = DataKeys::for_test(["a"]);
        let token = DeviceToken::generate(keys.current(), login(), NOW).unwrap();
        assert_eq!(token.expose().len(), 4 + 55);
        assert_eq!(DeviceToken::parse(&token.expose()), Some(token));
    }

    #[test]
    fn a_token_is_not_printed() {
        let key = DataKeys::for_test(["a"]);
        let token = DeviceToken::generate(key.current(), login(), NOW).unwrap();
        assert_eq!(format!("{token:?}"), "DeviceToken(..)");
    }

    #[test]
    fn the_text_is_what_the_design_says() {
        let token = DeviceToken {
            nonce: [2; NONCE],
            day: 0x0304_0506,
            tag: [7; TAG],
        };
        let body = [&[1][..], &[2; 16], &[3, 4, 5, 6], &[7; 16]].concat();
        let bytes = [&body[..], &crc32fast::hash(&body).to_be_bytes()].concat();
        assert_eq!(token.expose(), format!("rcd_{}", BASE64URL.encode(bytes)));
    }

    #[test]
    fn a_changed_character_is_refused() {
        let keys = DataKeys::for_test(["a"]);
        let text = DeviceToken::generate(keys.current(), login(), NOW).unwrap();
        let text = text.expose();
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            // Replaces A by B, and everything else by A.
            changed[position] = b'A' + u8::from(changed[position] == b'A');
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(DeviceToken::parse(&changed), None, "at {position}");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let body = [&[2][..], &[0; BODY - 1]].concat();
        let bytes = [&body[..], &crc32fast::hash(&body).to_be_bytes()].concat();
        let text = format!("rcd_{}", BASE64URL.encode(bytes));
        assert_eq!(DeviceToken::parse(&text), None);
    }

    #[test]
    fn a_token_is_genuine_for_its_account_and_password_only() {
        let (keys, login) = (DataKeys::for_test(["a"]), login());
        let token = DeviceToken::generate(keys.current(), login, NOW).unwrap();
        let is_genuine = |keys: &DataKeys, login| token.is_genuine(keys, login, NOW, TTL);
        assert!(is_genuine(&keys, login));
        let other_user = DeviceLogin {
            user_id: UserId::new(NOW),
            ..login
        };
        let other_password = DeviceLogin {
            password_changed_at: NOW + MICROSECOND,
            ..login
        };
        assert!(!is_genuine(&keys, other_user));
        assert!(!is_genuine(&keys, other_password));
        assert!(is_genuine(&DataKeys::for_test(["b", "a"]), login));
        assert!(!is_genuine(&DataKeys::for_test(["b"]), login));
        for (changed, forged) in [
            (
                "nonce",
                DeviceToken {
                    nonce: [0; NONCE],
                    ..token.clone()
                },
            ),
            (
                "day",
                DeviceToken {
                    day: token.day + 1,
                    ..token.clone()
                },
            ),
            (
                "tag",
                DeviceToken {
                    tag: [0; TAG],
                    ..token.clone()
                },
            ),
        ] {
            assert!(!forged.is_genuine(&keys, login, NOW, TTL), "{changed}");
        }
    }

    #[test]
    fn a_token_ends_after_its_time_and_a_renewed_one_lives_on() {
        let (keys, login) = (DataKeys::for_test(["a"]), login());
        let token = DeviceToken::generate(keys.current(), login, NOW).unwrap();
        let is_genuine = |token: &DeviceToken, now| token.is_genuine(&keys, login, now, TTL);
        assert!(is_genuine(&token, NOW + TTL));
        let later = NOW + TTL + ONE_DAY;
        assert!(!is_genuine(&token, later));
        let renewed = token.renew(keys.current(), login, later);
        assert_eq!(renewed.device(), token.device());
        assert!(is_genuine(&renewed, later));
        assert!(is_genuine(&renewed, later - ONE_DAY), "the clock was ahead");
        assert!(!is_genuine(&renewed, NOW));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(rcd_)?[A-Za-z0-9_-]{0,70}") {
            let _ = DeviceToken::parse(&text);
        }
    }
}
