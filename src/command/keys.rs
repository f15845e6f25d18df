//! `auth-service keys`: makes a key, or prints the keys as a JWK set for a gateway.

use anyhow::anyhow;
use auth_service::auth::{SigningKey, SigningSecrets};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{note, print};

/// The length of the hash. A longer key is not stronger (RFC 2104, section 3).
const KEY_BYTES: usize = 32;

pub(super) fn generate() -> anyhow::Result<()> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *key).map_err(|_| anyhow!("the operating system gave no random bytes"))?;
    print(&format!("base64:{}", BASE64_STANDARD.encode(&key)))
}

/// Prints the keys as a JWK set (RFC 7517, section 5), the one that signs first.
pub(super) fn jwks(secrets: SigningSecrets) -> anyhow::Result<()> {
    note("These keys can issue tokens: keep the set as private as JWT_SECRET.");
    let keys: Vec<_> = secrets.into_keys().map(|key| jwk(&key)).collect();
    print(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
}

/// Base64url needs no escaping in JSON.
fn jwk(key: &SigningKey) -> String {
    let k = BASE64_URL_SAFE_NO_PAD.encode(key.secret().expose_secret());
    let kid = key.id();
    format!(r#"{{"kty":"oct","use":"sig","alg":"HS256","kid":"{kid}","k":"{k}"}}"#)
}
