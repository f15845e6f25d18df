mod claims;
mod forged;
mod header;
mod issued;
mod lives;
mod revoked;
mod text;

use std::time::{Duration, SystemTime};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use crate::{Edge, Key, KeySet, Refusal};

const KEY: &str = "a-secret-of-the-tests-of-32-bytes";
const NEXT_KEY: &str = "the-next-secret-of-the-tests-of-32";
const HEADER: &str = r#"{"typ":"at+jwt","alg":"HS256","kid":"key-1"}"#;
/// Issued at [`iat`] for [`LIFE`], in the order in which the service writes it.
const PAYLOAD: &str = concat!(
    r#"{"iss":"realchat-auth","aud":"realchat","sub":"019aed27-0000-7000-8000-000000000001","#,
    r#""sid":"019aed27-0000-7000-8000-0000000000aa","jti":"019aed27-0000-7000-8000-0000000000bb","#,
    r#""iat":1764500000,"exp":1764503600}"#,
);
const USER: Uuid = Uuid::from_u128(0x019a_ed27_0000_7000_8000_0000_0000_0001);
const SESSION: Uuid = Uuid::from_u128(0x019a_ed27_0000_7000_8000_0000_0000_00aa);
const LIFE: Duration = Duration::from_hours(1);

/// Knows two keys, and no revocations.
fn edge() -> Edge {
    let mut edge = Edge::default();
    edge.set_keys(KeySet {
        keys: vec![
            Key::new("key-1".to_owned(), KEY.as_bytes()),
            Key::new("key-2".to_owned(), NEXT_KEY.as_bytes()),
        ],
        issuer: "realchat-auth".to_owned(),
        audience: "realchat".to_owned(),
        longest_life: LIFE,
    });
    edge
}

#[track_caller]
fn refused(token: &str, expected: Refusal) {
    assert_eq!(edge().verify(token, iat()), Err(expected), "{token}");
}

fn valid() -> String {
    signed(HEADER, PAYLOAD, KEY)
}

fn signed(header: &str, payload: &str, secret: &str) -> String {
    sign(
        &format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload)),
        secret,
    )
}

fn sign(text: &str, secret: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let signature = mac.chain_update(text).finalize().into_bytes();
    format!("{text}.{}", BASE64URL.encode(signature))
}

/// The text with another part, which must be there once.
fn with(text: &str, part: &str, other: &str) -> String {
    assert_eq!(text.matches(part).count(), 1, "{part}");
    text.replace(part, other)
}

fn iat() -> SystemTime {
    at(1_764_500_000_000)
}

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}
