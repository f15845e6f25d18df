//! Refresh tokens and their successors.
//!
//! A token is `rcr_` and the unpadded base64url of four parts: a handle (16 bytes, names the
//! session for its whole life), a secret (32 bytes, new at each rotation), a tag (8 bytes) and a
//! CRC-32 of all before it. Prefix and checksum let secret scanners recognise a leaked token.
//! The tag is an HMAC under a subkey of `DATA_KEY`: a forged token is refused without a query.
//!
//! The database stores only the SHA-256 of handle and secret, and the next secret *sealed*:
//! XORed with an HMAC whose key is the old secret and whose message is a subkey. A client that
//! presents the old token again gets the same successor, but the row reveals no token, also not
//! with an old one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::{DataKey, DataKeys};

const PREFIX: &str = "rcr_";
const HANDLE: usize = 16;
const SECRET: usize = 32;
const TAG: usize = 8;
const BODY: usize = HANDLE + SECRET + TAG;
const LENGTH: usize = BODY + 4;

/// A refresh token that this service made.
pub struct RefreshToken {
    handle: [u8; HANDLE],
    /// Boxed, because a value that is moved leaves copies in memory.
    secret: SecretBox<[u8; SECRET]>,
    tag: [u8; TAG],
}

impl RefreshToken {
    pub fn generate(key: &DataKey) -> Result<Self, getrandom::Error> {
        let mut handle = [0; HANDLE];
        getrandom::fill(&mut handle)?;
        Self::with_handle(handle, key)
    }

    /// The next token of the same session.
    pub fn generate_successor(&self, key: &DataKey) -> Result<Self, getrandom::Error> {
        Self::with_handle(self.handle, key)
    }

    fn with_handle(handle: [u8; HANDLE], key: &DataKey) -> Result<Self, getrandom::Error> {
        let mut secret = Box::new([0; SECRET]);
        getrandom::fill(&mut *secret)?;
        Ok(Self::tagged(handle, SecretBox::new(secret), key))
    }

    fn tagged(handle: [u8; HANDLE], secret: SecretBox<[u8; SECRET]>, key: &DataKey) -> Self {
        let tag = key.refresh_token.tag(&[&handle, secret.expose_secret()]);
        Self {
            handle,
            secret,
            tag,
        }
    }

    /// `None` unless prefix, length, alphabet and checksum are right, and the tag is that of one
    /// of the keys.
    pub fn parse(text: &str, keys: &DataKeys) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let encoded = text.strip_prefix(PREFIX)?;
        let length = BASE64URL.decode_slice(encoded, &mut *bytes).ok()?;
        if length != LENGTH {
            return None;
        }
        let (body, checksum) = bytes.split_at(BODY);
        if crc32fast::hash(body).to_be_bytes() != checksum {
            return None;
        }
        let (handle, rest) = body.split_first_chunk()?;
        let (secret, tag) = rest.split_first_chunk::<SECRET>()?;
        let is_tag_of = |key: &DataKey| {
            let expected: [u8; TAG] = key.refresh_token.tag(&[handle, secret]);
            bool::from(expected.ct_eq(tag))
        };
        if !keys.all().any(is_tag_of) {
            return None;
        }
        let copy = |bytes: &mut [u8; SECRET]| bytes.copy_from_slice(secret);
        Some(Self {
            handle: *handle,
            secret: SecretBox::init_with_mut(copy),
            tag: tag.try_into().ok()?,
        })
    }

    pub fn expose(&self) -> SecretString {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        bytes[..HANDLE].copy_from_slice(&self.handle);
        bytes[HANDLE..HANDLE + SECRET].copy_from_slice(self.secret.expose_secret());
        bytes[HANDLE + SECRET..BODY].copy_from_slice(&self.tag);
        let checksum = crc32fast::hash(&bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&checksum.to_be_bytes());
        let mut encoded = BASE64URL.encode(*bytes);
        let text = format!("{PREFIX}{encoded}");
        encoded.zeroize();
        text.into()
    }

    /// SHA-256 of the handle: finds the session.
    pub fn handle_hash(&self) -> [u8; 32] {
        Sha256::digest(self.handle).into()
    }

    /// SHA-256 of the secret: shows whether the token is current.
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose_secret()).into()
    }

    /// Whether `hash` is this token's [`secret_hash`](Self::secret_hash).
    pub fn matches(&self, hash: &[u8]) -> bool {
        self.secret_hash().ct_eq(hash).into()
    }

    /// The secret of `successor`, readable only with this token and the key.
    pub fn seal(&self, successor: &Self, key: &DataKey) -> [u8; SECRET] {
        let mut sealed = *successor.secret.expose_secret();
        self.xor_with_pad(&mut sealed, key);
        sealed
    }

    /// The token that was [sealed](Self::seal) with this one and the key; with another key, a
    /// token that no row has. `None` for a wrong length.
    pub fn unseal(&self, sealed: &[u8], key: &DataKey) -> Option<Self> {
        let mut secret: Box<[u8; SECRET]> = Box::new(sealed.try_into().ok()?);
        self.xor_with_pad(&mut secret, key);
        Some(Self::tagged(self.handle, SecretBox::new(secret), key))
    }

    fn xor_with_pad(&self, bytes: &mut [u8; SECRET], key: &DataKey) {
        let secret = self.secret.expose_secret();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key length");
        mac.update(key.refresh_successor.bytes());
        for (byte, pad) in bytes.iter_mut().zip(mac.finalize().into_bytes()) {
            *byte ^= pad;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(token: &RefreshToken) -> String {
        token.expose().expose_secret().to_owned()
    }

    fn keys() -> DataKeys {
        DataKeys::for_test(["a"])
    }

    #[test]
    fn a_token_survives_its_text() {
        let keys = keys();
        let token = RefreshToken::generate(keys.current()).unwrap();
        let again = RefreshToken::parse(&text(&token), &keys).unwrap();
        assert_eq!(again.handle, token.handle);
        assert_eq!(again.secret.expose_secret(), token.secret.expose_secret());
        assert_eq!(text(&again), text(&token));
        assert_eq!(text(&token).len(), 4 + 80);
    }

    #[test]
    fn the_text_is_what_the_design_says() {
        let keys = keys();
        let token = RefreshToken::tagged([0; HANDLE], SecretBox::default(), keys.current());
        let mac = keys.current().refresh_token.mac();
        let tag = mac.chain_update([0; 48]).finalize().into_bytes();
        let body = [&[0; 48][..], &tag[..8]].concat();
        let bytes = [&body[..], &crc32fast::hash(&body).to_be_bytes()].concat();
        assert_eq!(text(&token), format!("rcr_{}", BASE64URL.encode(bytes)));
    }

    #[test]
    fn a_changed_character_is_refused() {
        let keys = keys();
        let text = text(&RefreshToken::generate(keys.current()).unwrap());
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            // Replaces A by B, and everything else by A.
            changed[position] = b'A' + u8::from(changed[position] == b'A');
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                RefreshToken::parse(&changed, &keys).is_none(),
                "at {position}"
            );
        }
    }

    #[test]
    fn a_forged_token_with_a_right_checksum_is_refused() {
        let keys = keys();
        let token = RefreshToken::generate(keys.current()).unwrap();
        let is_known = |token: &RefreshToken| RefreshToken::parse(&text(token), &keys).is_some();
        for bit in 0..8 * TAG {
            let mut forged = RefreshToken::parse(&text(&token), &keys).unwrap();
            assert!(is_known(&forged));
            forged.tag[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_known(&forged), "bit {bit}");
        }
        let of_another = RefreshToken {
            handle: [7; HANDLE],
            ..token
        };
        assert!(!is_known(&of_another));
    }

    #[test]
    fn a_previous_key_still_tags_and_seals_and_an_unknown_one_does_not() {
        let (old, new) = (DataKeys::for_test(["a"]), DataKeys::for_test(["b", "a"]));
        let token = RefreshToken::generate(old.current()).unwrap();
        assert!(RefreshToken::parse(&text(&token), &new).is_some());
        assert!(RefreshToken::parse(&text(&token), &DataKeys::for_test(["b"])).is_none());
        let next = token.generate_successor(new.current()).unwrap();
        assert!(RefreshToken::parse(&text(&next), &old).is_none());
    }

    #[test]
    fn the_successor_comes_back_only_with_the_old_token_and_the_key() {
        let keys = DataKeys::for_test(["a", "b"]);
        let key = keys.current();
        let old = RefreshToken::generate(key).unwrap();
        let new = old.generate_successor(key).unwrap();
        let sealed = old.seal(&new, key);
        let unsealed = old.unseal(&sealed, key).unwrap();
        assert!(unsealed.matches(&new.secret_hash()));
        assert_eq!(text(&unsealed), text(&new));
        let other = old.generate_successor(key).unwrap();
        let unsealed = other.unseal(&sealed, key).unwrap();
        assert!(!unsealed.matches(&new.secret_hash()));
        let other_key = keys.all().nth(1).unwrap();
        let unsealed = old.unseal(&sealed, other_key).unwrap();
        assert!(!unsealed.matches(&new.secret_hash()));
        assert_ne!(&sealed, new.secret.expose_secret());
    }

    proptest! {
        #[test]
        fn junk_is_refused(junk in "(rcr_)?[A-Za-z0-9_-]{0,90}") {
            prop_assert!(RefreshToken::parse(&junk, &keys()).is_none());
        }
    }
}
