//! Password hashes as the service stores them. The format of a seal is written here a second
//! time, so that the tests do not check the code of the service with itself.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{DATA_KEY, TestDatabase, bytes_of, hex_of, hmac, subkey_of};

impl TestDatabase {
    /// The text in the column.
    pub async fn stored_hash(&self, email: &str) -> String {
        let sql = format!("SELECT password_hash FROM users WHERE email = '{email}'");
        self.text(&sql).await.expect("there is an account")
    }

    /// Replaces the bcrypt string of an account, sealed with [`DATA_KEY`].
    pub async fn set_password_hash(&self, email: &str, hash: &str) {
        let sealed = seal(hash, &self.user_id(email).await, DATA_KEY);
        let sql = format!("UPDATE users SET password_hash = '{sealed}' WHERE email = '{email}'");
        self.execute(&sql).await;
    }

    /// The bcrypt string of an account, whose seal must be one of [`DATA_KEY`].
    pub async fn password_hash(&self, email: &str) -> String {
        let stored = self.stored_hash(email).await;
        let user_id = self.user_id(email).await;
        open_seal(&stored, &user_id, DATA_KEY).unwrap_or_else(|| panic!("{stored} does not open"))
    }

    async fn user_id(&self, email: &str) -> Vec<u8> {
        let id = self.hex("id");
        let sql = format!("SELECT {id} FROM users WHERE email = '{email}'");
        bytes_of(&self.text(&sql).await.expect("there is an account"))
    }
}

fn seal(hash: &str, user_id: &[u8], data_key: &str) -> String {
    let subkey = subkey_of(data_key, "password seal");
    // The end of the hash is as random as a nonce has to be.
    let nonce: [u8; 12] = *hash.as_bytes().last_chunk().expect("a hash is longer");
    let key = UnboundKey::new(&CHACHA20_POLY1305, &subkey).expect("32 bytes");
    let mut text = hash.as_bytes().to_vec();
    let (unique, user_id) = (Nonce::assume_unique_for_key(nonce), Aad::from(user_id));
    let sealed = LessSafeKey::new(key).seal_in_place_append_tag(unique, user_id, &mut text);
    sealed.expect("a short text");
    let encoded = BASE64URL.encode([&nonce[..], &text].concat());
    format!("sealed:1:{}:{encoded}", key_id(&subkey))
}

fn key_id(subkey: &[u8]) -> String {
    hex_of(&hmac(subkey, b"key id")[..6])
}

/// The hash in a seal, if it is one of this key and this user.
pub fn open_seal(stored: &str, user_id: &[u8], data_key: &str) -> Option<String> {
    let subkey = subkey_of(data_key, "password seal");
    let encoded = stored.strip_prefix(&format!("sealed:1:{}:", key_id(&subkey)))?;
    let sealed = BASE64URL.decode(encoded).ok()?;
    let (nonce, text) = sealed.split_at(12);
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &subkey).ok()?;
    let mut text = text.to_vec();
    let opened = LessSafeKey::new(key).open_in_place(nonce, Aad::from(user_id), &mut text);
    String::from_utf8(opened.ok()?.to_vec()).ok()
}
