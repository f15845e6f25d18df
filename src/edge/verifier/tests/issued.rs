//! What the service issues.

use std::time::Duration;

use super::*;
use crate::{Claims, token::Parts};

#[test]
fn a_token_of_the_service_is_accepted() {
    let expected = Claims {
        user_id: USER,
        session_id: SESSION,
        issued_at: iat(),
        expires_at: iat() + LIFE,
        email_verified: None,
        roles: Vec::new(),
    };
    assert_eq!(edge().verify(&valid(), iat()), Ok(expected.clone()));
    let next = signed(&with(HEADER, r#""key-1""#, r#""key-2""#), PAYLOAD, NEXT_KEY);
    assert_eq!(edge().verify(&next, iat()), Ok(expected));
}

#[test]
fn the_address_and_the_roles_are_returned() {
    let more = r#","email_verified":false,"roles":["moderator","billing:read"]}"#;
    let token = signed(HEADER, &with(PAYLOAD, "}", more), KEY);
    let claims = edge().verify(&token, iat()).unwrap();
    assert_eq!(claims.email_verified, Some(false));
    assert_eq!(claims.roles, ["moderator", "billing:read"]);
}

#[test]
fn the_longest_token_of_the_service_is_accepted() {
    let roles: Vec<_> = (10..30)
        .map(|n| format!("\"{n}{}\"", "x".repeat(62)))
        .collect();
    let more = format!(r#","email_verified":true,"roles":[{}]}}"#, roles.join(","));
    let kid = "k".repeat(43);
    let mut edge = edge();
    edge.set_keys(KeySet {
        keys: vec![Key::new(kid.clone(), KEY.as_bytes())],
        issuer: "i".repeat(255),
        audience: "a".repeat(255),
        longest_life: LIFE,
    });
    let payload = with(PAYLOAD, "realchat-auth", &"i".repeat(255));
    let payload = with(
        &payload,
        r#""realchat""#,
        &format!("\"{}\"", "a".repeat(255)),
    );
    let token = signed(
        &with(HEADER, r#""key-1""#, &format!("\"{kid}\"")),
        &with(&payload, "}", &more),
        KEY,
    );
    assert_eq!(edge.verify(&token, iat()).unwrap().roles.len(), 20);
    assert!(token.len() < 3 * 1024, "{}", token.len());
}

#[test]
fn names_that_json_escapes_are_compared_as_they_are() {
    let mut edge = edge();
    edge.set_keys(KeySet {
        keys: vec![Key::new("k\"ey".to_owned(), KEY.as_bytes())],
        issuer: "real\\chat\u{e9}".to_owned(),
        audience: "\"".to_owned(),
        longest_life: LIFE,
    });
    let header = with(HEADER, r#""key-1""#, r#""k\"ey""#);
    let payload = with(PAYLOAD, "realchat-auth", "real\\\\chat\u{e9}");
    let payload = with(&payload, r#""realchat""#, r#""\"""#);
    assert!(edge.verify(&signed(&header, &payload, KEY), iat()).is_ok());
}

#[test]
fn a_token_is_valid_from_a_minute_before_iat_until_exp() {
    let (edge, token, second) = (edge(), valid(), Duration::from_secs(1));
    let verdict = |now| edge.verify(&token, now).map(drop);
    let minute = Duration::from_mins(1);
    assert_eq!(verdict(iat() - minute - second), Err(Refusal::Foreign));
    assert_eq!(verdict(iat() - minute), Ok(()));
    assert_eq!(verdict(iat() + LIFE - Duration::from_nanos(1)), Ok(()));
    assert_eq!(verdict(iat() + LIFE), Err(Refusal::Expired));
    assert_eq!(
        verdict(SystemTime::UNIX_EPOCH - second),
        Err(Refusal::Foreign)
    );
}

#[test]
fn keys_are_replaced() {
    let mut edge = edge();
    edge.set_keys(KeySet::default());
    assert_eq!(edge.verify(&valid(), iat()), Err(Refusal::UnknownKey));
    assert_eq!(
        Edge::default().verify(&valid(), iat()),
        Err(Refusal::UnknownKey)
    );
}

/// RFC 7515, appendix A.1.1.
#[test]
fn the_published_signature_is_right() {
    let secret =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = concat!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt",
        "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    );
    let key = Key::new(String::new(), &BASE64URL.decode(secret).unwrap());
    assert!(key.has_signed(&Parts::split(token).unwrap()));
}
