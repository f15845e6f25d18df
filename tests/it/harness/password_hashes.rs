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

    /// The bcrypt string of an account, whose seal must be one of [`DATA_KEY`].
    pub async fn password_hash(&self, email: &str) -> String {
        let stored = self.stored_hash(email).await;
        let sql = format!(
            "SELECT {} FROM users WHERE email = '{email}'",
            self.hex("id")
        );
        let user_id = bytes_of(&self.text(&sql).await.expect("there is an account"));
        open_seal(&stored, &user_id, DATA_KEY).unwrap_or_else(|| panic!("{stored} does not open"))
    }
}

/// The hash in a seal, if it is one of this key and this user.
pub fn open_seal(stored: &str, user_id: &[u8], data_key: &str) -> Option<String> {
    let subkey = subkey_of(data_key, "password seal");
    let key_id = hex_of(&hmac(&subkey, b"key id")[..6]);
    let encoded = stored.strip_prefix(&format!("sealed:1:{key_id}:"))?;
    let sealed = BASE64URL.decode(encoded).ok()?;
    let (nonce, text) = sealed.split_at(12);
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &subkey).ok()?;
    let mut text = text.to_vec();
    let opened = LessSafeKey::new(key).open_in_place(nonce, Aad::from(user_id), &mut text);
    String::from_utf8(opened.ok()?.to_vec()).ok()
}
