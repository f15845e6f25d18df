//! Texts that are not a token, or another spelling of a valid one.

use super::*;
use crate::{Refusal::Malformed, token::Parts};

#[test]
fn another_spelling_of_a_valid_token_is_refused() {
    let token = valid();
    let (text, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = text.split_once('.').unwrap();
    for other in [
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}=.{signature}"),
        format!("{text}.{signature}="),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{header} .{payload}.{signature}"),
        format!("{header}.\t{payload}.{signature}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{header}..{payload}.{signature}"),
        format!("{header}.{payload}..{signature}"),
        format!("{text}.{signature}.{signature}"),
        format!("Bearer {token}"),
        format!("\"{token}\""),
        format!("{token}\0"),
        format!("{token}A"),
        format!("{text}.{}", with_loose_bits(signature)),
        format!("{text}.{}", &signature[..42]),
        format!("{text}.{}", BASE64URL.encode([0; 31])),
        format!("{text}.{}", BASE64URL.encode([0; 33])),
        format!("{text}."),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        text.to_owned(),
        format!("{text}.%{}", &signature[1..]),
    ] {
        refused(&other, Malformed);
    }
    for (header, payload) in [
        (format!("{header}="), payload.to_owned()),
        (with_loose_bits(header), payload.to_owned()),
        (header.to_owned(), format!("{payload}=")),
        (header.to_owned(), with_loose_bits(payload)),
        (header.to_owned(), format!("{payload}.")),
        (header.to_owned(), format!(".{payload}")),
        (header.to_owned(), format!("{payload}\n")),
    ] {
        refused(&sign(&format!("{header}.{payload}"), KEY), Malformed);
    }
}

/// The last letter with a bit that belongs to no byte.
fn with_loose_bits(part: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_ne!(part.len() % 4, 0, "every bit of this part counts");
    let (text, last) = part.split_at(part.len() - 1);
    let value = LETTERS
        .iter()
        .position(|letter| last.as_bytes() == [*letter]);
    let other = LETTERS[value.unwrap() | 1];
    assert_ne!(last.as_bytes(), [other]);
    format!("{text}{}", char::from(other))
}

#[test]
fn a_token_of_the_standard_alphabet_is_refused() {
    let payload = with(PAYLOAD, "}", r#","x":"~~~???>>>"}"#);
    let token = signed(HEADER, &payload, KEY);
    assert!(edge().verify(&token, iat()).is_ok());
    let (text, _) = token.rsplit_once('.').unwrap();
    let text = text.replace('-', "+").replace('_', "/");
    assert!(text.contains(['+', '/']));
    refused(&sign(&text, KEY), Malformed);
}

#[test]
fn junk_is_refused() {
    let mut dots = String::new();
    for _ in 0..5 {
        refused(&dots, Malformed);
        dots.push('.');
    }
    for junk in [
        "a",
        "a.b",
        "a.b.c",
        "e30.e30.",
        "e30.e30.e30",
        "\u{1f480}.\u{1f480}.\u{1f480}",
    ] {
        refused(junk, Malformed);
    }
}

#[test]
fn a_very_long_token_is_refused_before_it_is_hashed() {
    let filled = |length| with(PAYLOAD, "}", &format!(r#","x":"{}"}}"#, "x".repeat(length)));
    assert!(
        edge()
            .verify(&signed(HEADER, &filled(5500), KEY), iat())
            .is_ok()
    );
    refused(&signed(HEADER, &filled(6000), KEY), Malformed);
    refused(&signed(&"x".repeat(6200), "", KEY), Malformed);
    let long = sign(&format!("e30.{}", "a".repeat(10_000)), KEY);
    assert!(Parts::split(&long).is_none());
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for (open, close) in [("[", "]"), (r#"{"x":"#, "}")] {
        let deep = format!("{}1{}", open.repeat(900), close.repeat(900));
        let payload = with(PAYLOAD, "}", &format!(r#","x":{deep}}}"#));
        let _ = edge().verify(&signed(HEADER, &payload, KEY), iat());
        refused(
            &signed(HEADER, &with(PAYLOAD, "1764503600", &deep), KEY),
            Malformed,
        );
        refused(
            &signed(&with(HEADER, r#""key-1""#, &deep), PAYLOAD, KEY),
            Malformed,
        );
    }
}

#[test]
fn a_signature_of_another_secret_is_refused() {
    refused(&signed(HEADER, PAYLOAD, NEXT_KEY), Malformed);
    refused(&signed(HEADER, PAYLOAD, ""), Malformed);
    refused(&signed(HEADER, PAYLOAD, &KEY.to_uppercase()), Malformed);
    let other = with(PAYLOAD, "0000000001", "0000000002");
    let (other, token) = (signed(HEADER, &other, KEY), valid());
    let (text, _) = other.rsplit_once('.').unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    refused(&format!("{text}.{signature}"), Malformed);
}
