//! Claims that the service does not write, signed with its key: the key may have leaked, or another
//! issuer may have the same one.

use super::*;
use crate::Refusal::{Expired, Foreign, Malformed};

#[test]
fn claims_of_others_and_malformed_ones_are_refused() {
    let sub = r#""019aed27-0000-7000-8000-000000000001""#;
    let sid = r#""019aed27-0000-7000-8000-0000000000aa""#;
    for (part, other, expected) in [
        ("realchat-auth", "realchat-auth ", Foreign),
        ("realchat-auth", "Realchat-Auth", Foreign),
        (r#""realchat-auth""#, "null", Malformed),
        (r#""iss":"realchat-auth","#, "", Malformed),
        (r#""realchat""#, r#""other""#, Foreign),
        (r#""realchat""#, r#"["realchat"]"#, Malformed),
        (r#""realchat""#, r#"["realchat","other"]"#, Malformed),
        (r#""aud":"realchat","#, "", Malformed),
        ("1764503600", "1764500000", Expired),
        ("1764503600", "1764499999", Expired),
        ("1764503600", "0", Expired),
        ("1764503600", "-1", Malformed),
        ("1764503600", "1764503600.5", Malformed),
        ("1764503600", "1.7645036e9", Malformed),
        ("1764503600", "01764503600", Malformed),
        ("1764503600", r#""1764503600""#, Malformed),
        ("1764503600", "null", Malformed),
        ("1764503600", "1764503601", Foreign), // too long a life
        ("1764503600", "18446744073709551615", Foreign),
        ("1764503600", "18446744073709551616", Malformed),
        ("1764503600", "1e400", Malformed),
        (r#","exp":1764503600"#, "", Malformed),
        ("1764500000", "1764500061", Foreign), // from the future
        ("1764500000", "1764503601", Foreign), // after its end
        ("1764500000", "18446744073709551615", Foreign),
        ("1764500000", "1764499999", Foreign), // too long a life
        ("1764500000", "0", Foreign),
        ("1764500000", "-1764500000", Malformed),
        (r#""iat":1764500000,"#, "", Malformed),
        ("}", r#","nbf":1764500061}"#, Foreign),
        ("}", r#","nbf":18446744073709551615}"#, Foreign),
        ("}", r#","nbf":-1}"#, Malformed),
        ("}", r#","nbf":"1764500000"}"#, Malformed),
        ("}", r#","exp":1764503600}"#, Malformed),
        ("}", r#","iss":"realchat-auth"}"#, Malformed),
        ("}", r#","\u0069ss":"other"}"#, Malformed), // another spelling of `iss`
        ("}", r#","roles":["moderator"],"roles":[]}"#, Malformed),
        ("}", r#","roles":"moderator"}"#, Malformed),
        ("}", r#","roles":[1]}"#, Malformed),
        ("}", r#","roles":null}"#, Malformed),
        ("}", r#","email_verified":"true"}"#, Malformed),
        (sub, r#""""#, Malformed),
        (sub, r#""ana""#, Malformed),
        (sub, "1", Malformed),
        (sub, "null", Malformed),
        (sub, r#""019AED27-0000-7000-8000-000000000001""#, Malformed),
        (sub, r#""019aed27000070008000000000000001""#, Malformed),
        (
            sub,
            r#""{019aed27-0000-7000-8000-000000000001}""#,
            Malformed,
        ),
        (
            sub,
            r#""urn:uuid:019aed27-0000-7000-8000-000000000001""#,
            Malformed,
        ),
        (sub, r#"" 019aed27-0000-7000-8000-000000000001""#, Malformed),
        (sid, r#""019aed27-0000-7000-8000-0000000000AA""#, Malformed),
        (sid, r#""019aed27-0000-7000-8000-0000000000a""#, Malformed),
        ("}", "", Malformed),
        ("}", "}{}", Malformed),
        ("{", "[", Malformed),
        ("{", " {", Malformed),
    ] {
        refused(&signed(HEADER, &with(PAYLOAD, part, other), KEY), expected);
    }
    let missing = format!(r#""sid":{sid},"#);
    refused(
        &signed(HEADER, &with(PAYLOAD, &missing, ""), KEY),
        Malformed,
    );
    for payload in ["", "{}", "null", "[]", "\"\"", "1", "\u{0}"] {
        refused(&signed(HEADER, payload, KEY), Malformed);
    }
}

#[test]
fn the_edges_of_the_times_are_accepted() {
    for (part, other) in [
        ("1764503600", "1764500001"),
        ("}", r#","nbf":1764500060}"#),
        ("}", r#","nbf":null}"#),
        ("}", r#","nbf":0}"#),
        ("}", r#","email_verified":null}"#),
    ] {
        let token = signed(HEADER, &with(PAYLOAD, part, other), KEY);
        assert!(edge().verify(&token, iat()).is_ok(), "{other}");
    }
}
