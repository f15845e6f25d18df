//! Refresh tokens and their successors.
//!
//! A token is `rcr_` and the unpadded base64url of three parts: a handle (16 bytes, names the
//! session for its whole life), a secret (32 bytes, new at each rotation), and a CRC-32 of
//! both. Prefix and checksum let secret scanners recognise a leaked token, and let the
//! service refuse malformed input without a query.
//!
//! The database stores only the SHA-256 of handle and secret, and the next secret *sealed*:
//! XORed with an HMAC whose key is the old secret. A client that presents the old token
//! again gets the same successor, but the row alone reveals no token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

const PREFIX: &str = "rcr_";
const HANDLE: usize = 16;
const SECRET: usize = 32;
const CHECKSUM: usize = 4;
const LENGTH: usize = HANDLE + SECRET + CHECKSUM;

/// A well-formed refresh token.
pub struct RefreshToken {
    handle: [u8; HANDLE],
    /// Boxed, because a value that is moved leaves copies in memory.
    secret: SecretBox<[u8; SECRET]>,
}

impl RefreshToken {
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut handle = [0; HANDLE];
        getrandom::fill(&mut handle)?;
        Self::with_handle(handle)
    }

    /// The next token of the same session.
    pub fn generate_successor(&self) -> Result<Self, getrandom::Error> {
        Self::with_handle(self.handle)
    }

    fn with_handle(handle: [u8; HANDLE]) -> Result<Self, getrandom::Error> {
        let mut secret = Box::new([0; SECRET]);
        getrandom::fill(&mut *secret)?;
        let secret = SecretBox::new(secret);
        Ok(Self { handle, secret })
    }

    /// `None` unless prefix, length, alphabet and checksum are right.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let encoded = text.strip_prefix(PREFIX)?;
        let length = BASE64URL.decode_slice(encoded, &mut *bytes).ok()?;
        if length != LENGTH {
            return None;
        }
        let (body, checksum) = bytes.split_at(HANDLE + SECRET);
        if crc32fast::hash(body).to_be_bytes() != checksum {
            return None;
        }
        let (handle, secret) = body.split_at(HANDLE);
        let handle = handle.try_into().ok()?;
        let copy = |bytes: &mut [u8; SECRET]| bytes.copy_from_slice(secret);
        let secret = SecretBox::init_with_mut(copy);
        Some(Self { handle, secret })
    }

    pub fn expose(&self) -> SecretString {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        bytes[..HANDLE].copy_from_slice(&self.handle);
        bytes[HANDLE..HANDLE + SECRET].copy_from_slice(self.secret.expose_secret());
        let checksum = crc32fast::hash(&bytes[..HANDLE + SECRET]);
        bytes[HANDLE + SECRET..].copy_from_slice(&checksum.to_be_bytes());
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

    /// The secret of `successor`, readable only with this token.
    pub fn seal(&self, successor: &Self) -> [u8; SECRET] {
        let mut sealed = *successor.secret.expose_secret();
        self.xor_with_pad(&mut sealed);
        sealed
    }

    /// The token that was [sealed](Self::seal) with this one. `None` for a wrong length.
    pub fn unseal(&self, sealed: &[u8]) -> Option<Self> {
        let mut secret: Box<[u8; SECRET]> = Box::new(sealed.try_into().ok()?);
        self.xor_with_pad(&mut secret);
        Some(Self {
            handle: self.handle,
            secret: SecretBox::new(secret),
        })
    }

    fn xor_with_pad(&self, bytes: &mut [u8; SECRET]) {
        let key = self.secret.expose_secret();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
        mac.update(b"refresh successor");
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

    #[test]
    fn a_token_survives_its_text() {
        let token = RefreshToken::generate().unwrap();
        let again = RefreshToken::parse(&text(&token)).unwrap();
        assert_eq!(again.handle, token.handle);
        assert_eq!(again.secret.expose_secret(), token.secret.expose_secret());
        assert_eq!(text(&token).len(), 4 + 70);
    }

    #[test]
    fn the_text_is_what_the_design_says() {
        let token = RefreshToken {
            handle: [0; HANDLE],
            secret: SecretBox::default(),
        };
        // The checksum of 48 zero bytes is zlib's.
        let bytes = [&[0; 48][..], &0xf288_b395_u32.to_be_bytes()].concat();
        assert_eq!(text(&token), format!("rcr_{}", BASE64URL.encode(bytes)));
    }

    #[test]
    fn a_changed_character_is_refused() {
        let text = text(&RefreshToken::generate().unwrap());
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            // Replaces A by B, and everything else by A.
            changed[position] = b'A' + u8::from(changed[position] == b'A');
            let changed = String::from_utf8(changed).unwrap();
            assert!(RefreshToken::parse(&changed).is_none(), "at {position}");
        }
    }

    #[test]
    fn the_successor_comes_back_only_with_the_old_token() {
        let old = RefreshToken::generate().unwrap();
        let new = old.generate_successor().unwrap();
        let sealed = old.seal(&new);
        let unsealed = old.unseal(&sealed).unwrap();
        assert!(unsealed.matches(&new.secret_hash()));
        assert_eq!(text(&unsealed), text(&new));
        let other = old.generate_successor().unwrap();
        assert!(!other.unseal(&sealed).unwrap().matches(&new.secret_hash()));
        assert_ne!(&sealed, new.secret.expose_secret());
    }

    proptest! {
        #[test]
        fn junk_is_refused(junk in "(rcr_)?[A-Za-z0-9_-]{0,80}") {
            prop_assert!(RefreshToken::parse(&junk).is_none());
        }
    }
}
