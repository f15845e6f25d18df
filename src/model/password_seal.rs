//! Password hashes as the database keeps them: sealed, so that a stolen dump cannot be cracked.
//!
//! A seal is `sealed:1:<key>:<base64url>`. The last part is a random nonce and the ciphertext of
//! ChaCha20-Poly1305 under the subkey "password seal". The user id is authenticated too: a seal
//! that was copied to the row of another user does not open. `<key>` names the `DATA_KEY`, so
//! that rows of a previous key are found, and no key is tried in vain.
//!
//! Nonces of 96 random bits allow 2^32 seals with one key (NIST SP 800-38D, section 8.3).

use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{DataKey, DataKeys, Form, UserId};

const PREFIX: &str = "sealed:";
const VERSION: &str = "1:";

/// A password hash in the form in which the database keeps it. Storage accepts only this type,
/// so that no bare hash is written by mistake.
pub struct StoredHash(String);

/// The key of a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedWith {
    Current,
    Previous,
    /// The hash is not sealed.
    None,
    /// No configured key opens the seal.
    Unknown,
}

impl SealedWith {
    pub const ALL: [Self; 4] = [Self::Current, Self::Previous, Self::None, Self::Unknown];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// A database with seals of keys that are not configured. It names them by the ids in their seals.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyMismatch {
    #[error(
        "some passwords in the database have the seal of another key ({0}): add it to \
         DATA_PREVIOUS_KEYS"
    )]
    Partial(String),
    #[error(
        "the passwords in the database have the seal of another key ({0}): set that key, or add \
         it to DATA_PREVIOUS_KEYS; if it is lost, see \"Lost data key\" in the runbook"
    )]
    Total(String),
}

/// Diesel asks for it. A hash that is not sealed must not be printed.
impl Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredHash(..)")
    }
}

impl StoredHash {
    pub fn new(hash: &str, user_id: UserId, form: Form<'_>) -> Result<Self, getrandom::Error> {
        let Form::Keyed(key) = form else {
            return Ok(Self(hash.to_owned()));
        };
        let mut sealed = vec![0; NONCE_LEN];
        getrandom::fill(&mut sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed).expect("the length of a nonce");
        let mut text = Zeroizing::new(hash.as_bytes().to_vec());
        let tag = key
            .aead()
            .seal_in_place_separate_tag(nonce, aad(&user_id), &mut text);
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.expect("a short text").as_ref());
        let encoded = BASE64URL.encode(sealed);
        Ok(Self(format!("{}{encoded}", key.seal_prefix())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this text is a seal, of any key and version.
    pub fn is_sealed(stored: &str) -> bool {
        stored.starts_with(PREFIX)
    }

    /// No password matches it.
    pub const fn unusable() -> Self {
        Self(String::new())
    }

    /// Whether this text stands for an account without a usable password, which is the empty one.
    pub const fn is_unusable(stored: &str) -> bool {
        stored.is_empty()
    }
}

impl DataKeys {
    /// The hash that is stored as this text. `None` if no key opens the seal, or if it is not
    /// one of this user. A text without seal is the hash itself: the release before wrote it, and
    /// housekeeping may need hours after the transition to seal all of them.
    pub fn open_hash(&self, stored: &str, user_id: UserId) -> Option<Zeroizing<String>> {
        if !StoredHash::is_sealed(stored) {
            return Some(Zeroizing::new(stored.to_owned()));
        }
        let key = self.all().find(|key| key.has_sealed(stored))?;
        let encoded = stored.strip_prefix(&key.seal_prefix())?;
        let mut sealed = Zeroizing::new(BASE64URL.decode(encoded).ok()?);
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = key.aead().open_in_place(nonce, aad(&user_id), sealed);
        let hash = String::from_utf8(opened.ok()?.to_vec()).ok()?;
        Some(Zeroizing::new(hash))
    }

    /// Compares the keys with those of a database that has these sealed hashes.
    pub fn check(&self, sealed: &[String]) -> Result<(), KeyMismatch> {
        let is_unknown = |stored: &&String| self.sealed_with(stored) == SealedWith::Unknown;
        let (unknown, known): (Vec<_>, Vec<_>) = sealed.iter().partition(is_unknown);
        let ids: BTreeSet<_> = unknown.iter().map(|stored| key_id(stored)).collect();
        let ids = Vec::from_iter(ids).join(", ");
        match (unknown.is_empty(), known.is_empty()) {
            (true, _) => Ok(()),
            (false, false) => Err(KeyMismatch::Partial(ids)),
            (false, true) => Err(KeyMismatch::Total(ids)),
        }
    }

    /// The key that a stored hash names.
    pub fn sealed_with(&self, stored: &str) -> SealedWith {
        if !StoredHash::is_sealed(stored) {
            return SealedWith::None;
        }
        match self.all().position(|key| key.has_sealed(stored)) {
            Some(0) => SealedWith::Current,
            Some(_) => SealedWith::Previous,
            None => SealedWith::Unknown,
        }
    }
}

impl DataKey {
    /// The beginning of all seals of this key.
    pub fn seal_prefix(&self) -> String {
        let id: [u8; 6] = self.password_seal.tag(&[b"key id"]);
        let id = u64::from_be_bytes([0, 0, id[0], id[1], id[2], id[3], id[4], id[5]]);
        format!("{PREFIX}{VERSION}{id:012x}:")
    }

    fn has_sealed(&self, stored: &str) -> bool {
        stored.starts_with(&self.seal_prefix())
    }

    fn aead(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.password_seal.bytes());
        LessSafeKey::new(key.expect("32 bytes"))
    }
}

/// The third part of a seal.
fn key_id(stored: &str) -> &str {
    stored.split(':').nth(2).unwrap_or_default()
}

fn aad(user_id: &UserId) -> Aad<&[u8; 16]> {
    Aad::from(user_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$2b$12$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
    const ANA: UserId = UserId::from_bytes([1; 16]);
    const BEN: UserId = UserId::from_bytes([2; 16]);

    fn seal(keys: &DataKeys) -> String {
        StoredHash::new(HASH, ANA, Form::Keyed(keys.current()))
            .unwrap()
            .0
    }

    fn open(keys: &DataKeys, stored: &str, user_id: UserId) -> Option<String> {
        keys.open_hash(stored, user_id).map(|hash| (*hash).clone())
    }

    #[test]
    fn a_seal_opens_with_its_key_for_its_user_only() {
        let keys = DataKeys::for_test(["a"]);
        let stored = seal(&keys);
        assert_eq!(open(&keys, &stored, ANA).as_deref(), Some(HASH));
        assert_eq!(open(&keys, &stored, BEN), None, "of another user");
        assert_eq!(
            open(&DataKeys::for_test(["b"]), &stored, ANA),
            None,
            "another key"
        );
        assert!(!stored.contains("$2"), "{stored}");
    }

    #[test]
    fn a_seal_that_names_the_wrong_key_does_not_open() {
        let (a, b) = (DataKeys::for_test(["a"]), DataKeys::for_test(["b"]));
        let named = [&a, &b].map(|keys| keys.current().seal_prefix());
        let stored = seal(&a).replace(&named[0], &named[1]);
        assert_eq!(open(&b, &stored, ANA), None);
    }

    #[test]
    fn no_two_seals_are_alike() {
        let keys = DataKeys::for_test(["a"]);
        assert_ne!(seal(&keys), seal(&keys));
    }

    #[test]
    fn the_text_is_what_the_design_says() {
        let stored = seal(&DataKeys::for_test(["a"]));
        let parts: Vec<_> = stored.split(':').collect();
        let [name, version, key, encoded] = parts[..] else {
            panic!("{stored}")
        };
        assert_eq!((name, version, key.len()), ("sealed", "1", 12));
        assert!(key.bytes().all(|c| c.is_ascii_hexdigit()), "{key}");
        assert_eq!(
            BASE64URL.decode(encoded).unwrap().len(),
            12 + HASH.len() + 16
        );
    }

    #[test]
    fn each_stored_hash_names_its_key() {
        let (old, new) = (DataKeys::for_test(["a"]), DataKeys::for_test(["b", "a"]));
        assert_eq!(new.sealed_with(&seal(&new)), SealedWith::Current);
        assert_eq!(new.sealed_with(&seal(&old)), SealedWith::Previous);
        assert_eq!(old.sealed_with(&seal(&new)), SealedWith::Unknown);
        assert_eq!(new.sealed_with("sealed:2:whatever"), SealedWith::Unknown);
        assert_eq!(new.sealed_with(HASH), SealedWith::None);
        assert_eq!(open(&new, &seal(&old), ANA).as_deref(), Some(HASH));
    }

    #[test]
    fn keys_are_refused_if_they_open_none_of_the_seals() {
        let [a, b, c] = ["a", "b", "c"].map(|key| DataKeys::for_test([key]));
        let both = DataKeys::for_test(["b", "a"]);
        let id = |keys: &DataKeys| key_id(&seal(keys)).to_owned();
        assert_eq!(a.check(&[]), Ok(()), "no seal");
        assert_eq!(a.check(&[seal(&a), seal(&a)]), Ok(()));
        assert_eq!(both.check(&[seal(&a), seal(&b)]), Ok(()));
        let some = [seal(&a), seal(&b), seal(&a)];
        assert_eq!(b.check(&some), Err(KeyMismatch::Partial(id(&a))));
        assert_eq!(b.check(&[seal(&a)]), Err(KeyMismatch::Total(id(&a))));
        let mut ids = [id(&a), id(&b)];
        ids.sort_unstable();
        assert_eq!(c.check(&some), Err(KeyMismatch::Total(ids.join(", "))));
        let malformed = ["sealed:2".to_owned()];
        assert_eq!(a.check(&malformed), Err(KeyMismatch::Total(String::new())));
    }

    #[test]
    fn the_old_form_is_the_hash_itself() {
        let stored = StoredHash::new(HASH, ANA, Form::Old).unwrap();
        assert_eq!(stored.as_str(), HASH);
        assert_eq!(
            open(&DataKeys::for_test(["a"]), HASH, ANA).as_deref(),
            Some(HASH)
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".{0,100}", id: [u8; 16]) {
            let (keys, id) = (DataKeys::for_test(["a"]), UserId::from_bytes(id));
            let stored = StoredHash::new(&text, id, Form::Keyed(keys.current())).unwrap();
            prop_assert_eq!(open(&keys, stored.as_str(), id), Some(text));
        }

        #[test]
        fn a_changed_character_opens_nothing(position in 0_usize..138, to in "[A-Za-z0-9_-]") {
            let keys = DataKeys::for_test(["a"]);
            let stored = seal(&keys);
            prop_assume!(position < stored.len());
            let mut changed = stored.clone();
            changed.replace_range(position..=position, &to);
            prop_assume!(changed != stored && changed.starts_with(PREFIX));
            prop_assert_eq!(open(&keys, &changed, ANA), None);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(sealed:(1:)?)?.{0,70}") {
            let keys = DataKeys::for_test(["a"]);
            let _ = (keys.open_hash(&text, ANA), keys.sealed_with(&text));
            let named = format!("{}{text}", keys.current().seal_prefix());
            prop_assert!(keys.open_hash(&named, ANA).is_none());
        }
    }
}
