//! `DATA_KEY`, the root of the keys that protect stored data and tokens.
//!
//! Each purpose has a subkey of its own (HKDF-SHA256, RFC 5869). Nothing that is made for one
//! purpose can serve another, and a subkey does not reveal the root. After a change of the key,
//! [`DataKeys`] still accepts what the previous ones made.

use std::{
    fmt::{self, Display},
    iter,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use secrecy::{ExposeSecret as _, SecretBox, SecretSlice};
use sha2::Sha256;

/// The keys as they are configured.
#[derive(Clone, Debug)]
pub struct DataSecrets {
    pub current: SecretSlice<u8>,
    pub previous: Vec<SecretSlice<u8>>,
}

/// The current key, which makes everything new, and the previous ones.
#[derive(Debug)]
pub struct DataKeys {
    current: DataKey,
    previous: Vec<DataKey>,
}

/// The subkeys of one `DATA_KEY`.
#[derive(Debug)]
pub struct DataKey {
    pub refresh_token: Subkey,
    pub refresh_successor: Subkey,
    pub device_token: Subkey,
    pub throttle: Subkey,
    audit: Subkey,
    pub password_seal: Subkey,
}

/// A keyed hash for the audit log. Equal values have equal ones, on all replicas, and only the
/// key can tell which value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 8]);

#[derive(Debug)]
pub struct Subkey(SecretBox<[u8; 32]>);

impl DataKeys {
    pub fn new(secrets: &DataSecrets) -> Self {
        Self {
            current: DataKey::derive(&secrets.current),
            previous: secrets.previous.iter().map(DataKey::derive).collect(),
        }
    }

    pub const fn current(&self) -> &DataKey {
        &self.current
    }

    /// The current key first.
    pub fn all(&self) -> impl Iterator<Item = &DataKey> {
        iter::once(&self.current).chain(&self.previous)
    }
}

impl DataKey {
    fn derive(root: &SecretSlice<u8>) -> Self {
        // The root is random, so it needs no salt (RFC 5869, section 3.1).
        let root = Salt::new(HKDF_SHA256, &[]).extract(root.expose_secret());
        Self {
            refresh_token: Subkey::derive(&root, "refresh token"),
            refresh_successor: Subkey::derive(&root, "refresh successor"),
            device_token: Subkey::derive(&root, "device token"),
            throttle: Subkey::derive(&root, "throttle"),
            audit: Subkey::derive(&root, "audit"),
            password_seal: Subkey::derive(&root, "password seal"),
        }
    }

    /// `kind` has no NUL: the same bytes of two kinds have different fingerprints.
    pub fn fingerprint(&self, kind: &str, value: &[u8]) -> Fingerprint {
        Fingerprint(self.audit.tag(&[kind.as_bytes(), &[0], value]))
    }
}

/// 16 hexadecimal digits.
impl Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl Subkey {
    fn derive(root: &Prk, purpose: &str) -> Self {
        let info = [purpose.as_bytes()];
        let derived = root.expand(&info, HKDF_SHA256);
        let derived = derived.expect("HKDF makes 32 bytes");
        Self(SecretBox::init_with_mut(|key: &mut [u8; 32]| {
            derived.fill(key).expect("the length that was asked for");
        }))
    }

    /// An HMAC-SHA256 with this key.
    pub fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(self.bytes()).expect("any key length")
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// The first bytes of the HMAC of all parts. Their lengths must be fixed, or
    /// follow from the parts before.
    pub(super) fn tag<const N: usize>(&self, parts: &[&[u8]]) -> [u8; N] {
        let mut mac = self.mac();
        for part in parts {
            mac.update(part);
        }
        let tag = mac.finalize().into_bytes();
        *tag.first_chunk().expect("at most 32 bytes")
    }
}

#[cfg(test)]
impl DataKeys {
    /// Keys of this text, repeated; the first is the current one.
    pub fn for_test<const N: usize>(keys: [&str; N]) -> Self {
        let mut keys = keys
            .map(|key| key.repeat(32).into_bytes().into())
            .into_iter();
        Self::new(&DataSecrets {
            current: keys.next().expect("a key"),
            previous: keys.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subkeys_are_those_of_rfc_5869() {
        let keys = DataKeys::new(&DataSecrets {
            current: vec![0x0b; 32].into(),
            previous: Vec::new(),
        });
        // HKDF without salt and with one block, written out.
        let hmac = |key: &[u8], message: &[u8]| {
            let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.chain_update(message).finalize().into_bytes()
        };
        let root = hmac(&[0; 32], &[0x0b; 32]);
        let expected = hmac(&root, b"refresh token\x01");
        assert_eq!(keys.current().refresh_token.bytes()[..], expected[..]);
    }

    #[test]
    fn each_key_and_each_purpose_has_its_own_subkey() {
        let keys = DataKeys::for_test(["a", "b"]);
        let subkeys = keys.all().flat_map(|key| {
            [
                &key.refresh_token,
                &key.refresh_successor,
                &key.device_token,
                &key.password_seal,
            ]
        });
        let mut subkeys: Vec<_> = subkeys.map(|key| *key.bytes()).collect();
        subkeys.sort_unstable();
        subkeys.dedup();
        assert_eq!(subkeys.len(), 8);
    }

    #[test]
    fn a_fingerprint_depends_on_key_kind_and_value() {
        let keys = DataKeys::for_test(["a", "b"]);
        let of = |kind, value: &str| keys.current().fingerprint(kind, value.as_bytes());
        assert_eq!(of("e-mail", "x"), of("e-mail", "x"));
        assert_ne!(of("e-mail", "x"), of("e-mail", "y"));
        assert_ne!(of("e-mail", "x"), of("address", "x"));
        let other = keys.all().nth(1).unwrap().fingerprint("e-mail", b"x");
        assert_ne!(of("e-mail", "x"), other);
        let text = other.to_string();
        assert!(text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn no_key_is_printed() {
        let keys = DataKeys::for_test(["a"]);
        let (printed, key) = (format!("{keys:?}"), keys.current().refresh_token.bytes());
        assert!(
            !printed.contains(&format!("{}, {}", key[0], key[1])),
            "{printed}"
        );
    }
}
