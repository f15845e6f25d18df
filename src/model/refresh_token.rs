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

use super::Form;

const PREFIX: &str = "rcr_";
const HANDLE: usize = 16;
const SECRET: usize = 32;
const TAG: usize = 8;
const CHECKSUM: usize = 4;
const LENGTH: usize = HANDLE + SECRET + TAG + CHECKSUM;

/// A refresh token that this service made.
pub struct RefreshToken {
    handle: [u8; HANDLE],
    /// Boxed, because a value that is moved leaves copies in memory.
    secret: SecretBox<[u8; SECRET]>,
    /// `None` in the old form.
    tag: Option<[u8; TAG]>,
}

impl RefreshToken {
    pub fn generate(form: Form<'_>) -> Result<Self, getrandom::Error> {
        let mut handle = [0; HANDLE];
        getrandom::fill(&mut handle)?;
        Self::with_handle(handle, form)
    }

    /// The next token of the same session.
    pub fn generate_successor(&self, form: Form<'_>) -> Result<Self, getrandom::Error> {
        Self::with_handle(self.handle, form)
    }

    fn with_handle(handle: [u8; HANDLE], form: Form<'_>) -> Result<Self, getrandom::Error> {
        let mut secret = Box::new([0; SECRET]);
        getrandom::fill(&mut *secret)?;
        Ok(Self::tagged(handle, SecretBox::new(secret), form))
    }

    fn tagged(handle: [u8; HANDLE], secret: SecretBox<[u8; SECRET]>, form: Form<'_>) -> Self {
        let tag = tag(&handle, secret.expose_secret(), form);
        Self {
            handle,
            secret,
            tag,
        }
    }

    /// `None` unless prefix, length, alphabet and checksum are right, and the token has one of
    /// these forms: with the tag of a known key, or without a tag.
    pub fn parse<'k>(text: &str, mut forms: impl Iterator<Item = Form<'k>>) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let encoded = text.strip_prefix(PREFIX)?;
        let length = BASE64URL.decode_slice(encoded, &mut *bytes).ok()?;
        let (body, checksum) = bytes[..length].split_last_chunk::<CHECKSUM>()?;
        if crc32fast::hash(body).to_be_bytes() != *checksum {
            return None;
        }
        let (handle, rest) = body.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk()?;
        let shown = match rest {
            [] => None,
            _ => Some(<[u8; TAG]>::try_from(rest).ok()?),
        };
        let is_made_in = |form| match (tag(handle, secret, form), shown) {
            (Some(tag), Some(shown)) => tag.ct_eq(&shown).into(),
            (tag, shown) => tag == shown,
        };
        if !forms.any(is_made_in) {
            return None;
        }
        let copy = |bytes: &mut [u8; SECRET]| bytes.copy_from_slice(secret);
        Some(Self {
            handle: *handle,
            secret: SecretBox::init_with_mut(copy),
            tag: shown,
        })
    }

    pub fn expose(&self) -> SecretString {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        bytes.extend_from_slice(&self.handle);
        bytes.extend_from_slice(self.secret.expose_secret());
        bytes.extend(self.tag.iter().flatten());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        let mut encoded = BASE64URL.encode(&*bytes);
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
    pub fn seal(&self, successor: &Self, form: Form<'_>) -> [u8; SECRET] {
        let mut sealed = *successor.secret.expose_secret();
        self.xor_with_pad(&mut sealed, form);
        sealed
    }

    /// The token that was [sealed](Self::seal) with this one in this form; in another form, a
    /// token that no row has. `None` for a wrong length.
    pub fn unseal(&self, sealed: &[u8], form: Form<'_>) -> Option<Self> {
        let mut secret: Box<[u8; SECRET]> = Box::new(sealed.try_into().ok()?);
        self.xor_with_pad(&mut secret, form);
        Some(Self::tagged(self.handle, SecretBox::new(secret), form))
    }

    fn xor_with_pad(&self, bytes: &mut [u8; SECRET], form: Form<'_>) {
        let secret = self.secret.expose_secret();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key length");
        mac.update(match form {
            Form::Keyed(key) => key.refresh_successor.bytes(),
            Form::Old => b"refresh successor",
        });
        for (byte, pad) in bytes.iter_mut().zip(mac.finalize().into_bytes()) {
            *byte ^= pad;
        }
    }
}

fn tag(handle: &[u8; HANDLE], secret: &[u8; SECRET], form: Form<'_>) -> Option<[u8; TAG]> {
    match form {
        Form::Keyed(key) => Some(key.refresh_token.tag(&[handle, secret])),
        Form::Old => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DataKeys;
    use proptest::prelude::*;

    fn text(token: &RefreshToken) -> String {
        token.expose().expose_secret().to_owned()
    }

    fn keys() -> DataKeys {
        DataKeys::for_test(["a"])
    }

    fn form(keys: &DataKeys) -> Form<'_> {
        Form::Keyed(keys.current())
    }

    fn parse(text: &str, keys: &DataKeys) -> Option<RefreshToken> {
        RefreshToken::parse(text, keys.all().map(Form::Keyed))
    }

    #[test]
    fn a_token_survives_its_text() {
        let keys = keys();
        let token = RefreshToken::generate(form(&keys)).unwrap();
        let again = parse(&text(&token), &keys).unwrap();
        assert_eq!(again.handle, token.handle);
        assert_eq!(again.secret.expose_secret(), token.secret.expose_secret());
        assert_eq!(text(&again), text(&token));
        assert_eq!(text(&token).len(), 4 + 80);
    }

    #[test]
    fn the_text_is_what_the_design_says() {
        let keys = keys();
        let token = RefreshToken::tagged([0; HANDLE], SecretBox::default(), form(&keys));
        let mac = keys.current().refresh_token.mac();
        let tag = mac.chain_update([0; 48]).finalize().into_bytes();
        let body = [&[0; 48][..], &tag[..8]].concat();
        let bytes = [&body[..], &crc32fast::hash(&body).to_be_bytes()].concat();
        assert_eq!(text(&token), format!("rcr_{}", BASE64URL.encode(bytes)));
    }

    #[test]
    fn a_changed_character_is_refused() {
        let keys = keys();
        let text = text(&RefreshToken::generate(form(&keys)).unwrap());
        for position in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            // Replaces A by B, and everything else by A.
            changed[position] = b'A' + u8::from(changed[position] == b'A');
            let changed = String::from_utf8(changed).unwrap();
            assert!(parse(&changed, &keys).is_none(), "at {position}");
        }
    }

    #[test]
    fn a_forged_token_with_a_right_checksum_is_refused() {
        let keys = keys();
        let token = RefreshToken::generate(form(&keys)).unwrap();
        let is_known = |token: &RefreshToken| parse(&text(token), &keys).is_some();
        for bit in 0..8 * TAG {
            let mut forged = parse(&text(&token), &keys).unwrap();
            assert!(is_known(&forged));
            forged.tag.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
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
        let token = RefreshToken::generate(form(&old)).unwrap();
        assert!(parse(&text(&token), &new).is_some());
        assert!(parse(&text(&token), &DataKeys::for_test(["b"])).is_none());
        let next = token.generate_successor(form(&new)).unwrap();
        assert!(parse(&text(&next), &old).is_none());
    }

    #[test]
    fn the_successor_comes_back_only_with_the_old_token_and_the_key() {
        let keys = DataKeys::for_test(["a", "b"]);
        let key = form(&keys);
        let old = RefreshToken::generate(key).unwrap();
        let new = old.generate_successor(key).unwrap();
        let sealed = old.seal(&new, key);
        let unsealed = old.unseal(&sealed, key).unwrap();
        assert!(unsealed.matches(&new.secret_hash()));
        assert_eq!(text(&unsealed), text(&new));
        let other = old.generate_successor(key).unwrap();
        let unsealed = other.unseal(&sealed, key).unwrap();
        assert!(!unsealed.matches(&new.secret_hash()));
        let other_key = Form::Keyed(keys.all().nth(1).unwrap());
        let unsealed = old.unseal(&sealed, other_key).unwrap();
        assert!(!unsealed.matches(&new.secret_hash()));
        assert_ne!(&sealed, new.secret.expose_secret());
    }

    #[test]
    fn a_token_without_tag_is_refused_unless_the_old_form_is_accepted() {
        let token = RefreshToken::generate(Form::Old).unwrap();
        assert_eq!(text(&token).len(), 4 + 70);
        assert!(parse(&text(&token), &keys()).is_none());
        let keys = keys();
        let forms = || [form(&keys), Form::Old].into_iter();
        let again = RefreshToken::parse(&text(&token), forms()).unwrap();
        assert_eq!(text(&again), text(&token));
        let mut forged = RefreshToken::generate(form(&keys)).unwrap();
        assert!(RefreshToken::parse(&text(&forged), forms()).is_some());
        forged.tag = Some([0; TAG]);
        assert!(RefreshToken::parse(&text(&forged), forms()).is_none());
    }

    #[test]
    fn the_old_form_is_that_of_the_release_before() {
        let old = RefreshToken::tagged([0; HANDLE], SecretBox::default(), Form::Old);
        // The checksum of 48 zero bytes is zlib's.
        let bytes = [&[0; 48][..], &0xf288_b395_u32.to_be_bytes()].concat();
        assert_eq!(text(&old), format!("rcr_{}", BASE64URL.encode(bytes)));
        let new = old.generate_successor(Form::Old).unwrap();
        let mac = Hmac::<Sha256>::new_from_slice(&[0; 32]).unwrap();
        let pad = mac
            .chain_update(b"refresh successor")
            .finalize()
            .into_bytes();
        let mut sealed = old.seal(&new, Form::Old);
        assert_eq!(text(&old.unseal(&sealed, Form::Old).unwrap()), text(&new));
        sealed
            .iter_mut()
            .zip(pad)
            .for_each(|(byte, pad)| *byte ^= pad);
        assert_eq!(&sealed, new.secret.expose_secret());
    }

    proptest! {
        #[test]
        fn junk_is_refused(junk in "(rcr_)?[A-Za-z0-9_-]{0,90}") {
            prop_assert!(parse(&junk, &keys()).is_none());
        }
    }
}
