//! Headers that the service does not write.

use super::*;
use crate::Refusal::{Malformed, UnknownKey};

#[test]
fn a_header_of_another_kind_is_refused() {
    for (part, other, expected) in [
        ("HS256", "none", Malformed),
        ("HS256", "hs256", Malformed),
        ("HS256", "HS384", Malformed),
        ("HS256", "HS512", Malformed),
        ("HS256", "RS256", Malformed),
        ("HS256", "ES256", Malformed),
        ("HS256", "EdDSA", Malformed),
        ("HS256", "", Malformed),
        (r#""HS256""#, "null", Malformed),
        (r#""HS256""#, r#"["HS256"]"#, Malformed),
        (r#""alg":"HS256","#, "", Malformed),
        ("alg", "Alg", Malformed),
        ("at+jwt", "JWT", Malformed),
        ("at+jwt", "AT+JWT", Malformed),
        ("at+jwt", "application/at+jwt", Malformed),
        (r#""typ":"at+jwt","#, "", Malformed),
        (r#""key-1""#, r#""key-2""#, Malformed), // signed by another key of the service
        (r#""key-1""#, r#""Key-1""#, UnknownKey),
        (r#""key-1""#, r#""""#, UnknownKey),
        (r#""key-1""#, r#""../key-1""#, UnknownKey),
        (r#""key-1""#, "1", Malformed),
        (r#","kid":"key-1""#, "", Malformed),
        ("}", r#","crit":["exp"]}"#, Malformed),
        ("}", r#","crit":[]}"#, Malformed),
        ("}", r#","crit":null}"#, Malformed),
        ("}", r#","alg":"HS256"}"#, Malformed),
        ("}", r#","alg":"none"}"#, Malformed),
        ("}", r#","kid":"key-2"}"#, Malformed),
        ("}", "", Malformed),
        ("}", "}}", Malformed),
        ("}", "} x", Malformed),
        ("{", "[{", Malformed),
        ("{", "\u{feff}{", Malformed),
    ] {
        refused(&signed(&with(HEADER, part, other), PAYLOAD, KEY), expected);
    }
    refused(
        &signed(r#"["HS256","at+jwt","key-1"]"#, PAYLOAD, KEY),
        Malformed,
    );
    refused(&signed("", PAYLOAD, KEY), Malformed);
    refused(&signed("{}", PAYLOAD, KEY), Malformed);
}

#[test]
fn an_extension_that_is_not_critical_is_ignored() {
    let header = with(
        HEADER,
        "}",
        r#","b64":false,"jwk":{"k":"a"},"x5u":"https://evil"}"#,
    );
    assert!(edge().verify(&signed(&header, PAYLOAD, KEY), iat()).is_ok());
}
