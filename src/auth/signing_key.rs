//! The keys that sign access tokens, and their rotation.
//!
//! The algorithm is HS256, so everyone who verifies a token holds the secret. A key's id is
//! the RFC 7638 thumbprint of the secret, so replicas with the same secret agree on the id.
//! A key rotates in three steps: it is published, it signs, and it still verifies after the
//! next key signs.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

#[derive(Clone)]
pub struct SigningKey {
    id: String,
    secret: SecretSlice<u8>,
}

impl SigningKey {
    pub fn new(secret: SecretSlice<u8>) -> Self {
        // RFC 7638, section 3.2: the required members of an `oct` key in lexicographic order.
        let k = Zeroizing::new(BASE64URL.encode(secret.expose_secret()));
        let jwk = Zeroizing::new(format!(r#"{{"k":"{}","kty":"oct"}}"#, *k));
        let id = BASE64URL.encode(Sha256::digest(jwk.as_bytes()));
        Self { id, secret }
    }

    /// The `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub const fn secret(&self) -> &SecretSlice<u8> {
        &self.secret
    }
}
