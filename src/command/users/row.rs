//! A line of an import: one JSON object. What is wrong with it is named without the value.

use std::fmt;

use auth_service::model::{ImportRow, Rejection, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    lines::{LONGEST, Malformed},
    table::visible,
};

const FIELDS: [&str; 6] = [
    "user_id",
    "email",
    "password_hash",
    "email_verified_at",
    "created_at",
    "roles",
];

/// How much is shown of a name that is no field.
const LONGEST_NAME: usize = 40;

/// The fields in their order. A map would hide a field that is given twice.
struct Object(Vec<(String, Value)>);

pub(super) fn parse(text: Result<&str, Malformed>) -> Result<ImportRow, Rejection> {
    let text = text.map_err(|malformed| match malformed {
        Malformed::TooLong => Rejection::invalid("length", format!("is over {LONGEST} bytes")),
        Malformed::NotUtf8 => Rejection::invalid("encoding", "is not UTF-8"),
    })?;
    let object: Object = serde_json::from_str(text).map_err(|error| {
        let problem = format!("is not one object (column {})", error.column());
        Rejection::invalid("JSON", problem)
    })?;
    let mut row = ImportRow {
        user_id: String::new(),
        email: String::new(),
        password_hash: Zeroizing::default(),
        email_verified_at: None,
        created_at: None,
        roles: Vec::new(),
    };
    let mut seen = Vec::new();
    for (name, value) in object.0 {
        let field = FIELDS.into_iter().find(|field| *field == name);
        let field = field.ok_or_else(|| unknown(&name))?;
        if seen.contains(&field) {
            return Err(Rejection::invalid(field, "is given twice"));
        }
        seen.push(field);
        if !value.is_null() {
            set(&mut row, field, value)?;
        }
    }
    Ok(row)
}

fn unknown(name: &str) -> Rejection {
    let is_long = name.chars().nth(LONGEST_NAME).is_some();
    let begin: String = name.chars().take(LONGEST_NAME).collect();
    let dots = if is_long { ".." } else { "" };
    let (shown, fields) = (visible(&begin), FIELDS.join(", "));
    Rejection::invalid(
        "unknown field",
        format!("{shown}{dots}; there are {fields}"),
    )
}

fn set(row: &mut ImportRow, field: &'static str, value: Value) -> Result<(), Rejection> {
    match field {
        "user_id" => row.user_id = text(field, value)?,
        "email" => row.email = text(field, value)?,
        "password_hash" => row.password_hash = Zeroizing::new(text(field, value)?),
        "email_verified_at" => row.email_verified_at = Some(time(field, value)?),
        "created_at" => row.created_at = Some(time(field, value)?),
        _ => row.roles = texts(field, value)?,
    }
    Ok(())
}

fn text(field: &'static str, value: Value) -> Result<String, Rejection> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Rejection::invalid(field, "must be a text")),
    }
}

fn time(field: &'static str, value: Value) -> Result<Timestamp, Rejection> {
    let time = Timestamp::parse(&text(field, value)?);
    let problem = "must be a time such as 2026-12-31T00:00:00Z";
    time.ok_or_else(|| Rejection::invalid(field, problem))
}

fn texts(field: &'static str, value: Value) -> Result<Vec<String>, Rejection> {
    let Value::Array(values) = value else {
        return Err(Rejection::invalid(field, "must be a list of texts"));
    };
    values.into_iter().map(|value| text(field, value)).collect()
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: &str = r#"{"user_id": "7d1f4f0e-5b7a-4c55-9b1e-0c3f6a2d9e01", "email": "Ana@example.com",
        "password_hash": "$2a$10$x", "email_verified_at": "2024-03-05T09:14:22.5+00:00",
        "created_at": "2024-03-05T09:12:03Z", "roles": ["moderator", "billing"]}"#;

    fn read(text: &str) -> ImportRow {
        parse(Ok(text)).unwrap_or_else(|rejection| panic!("{rejection}"))
    }

    fn reason(text: &str) -> String {
        parse(Ok(text))
            .err()
            .map(|rejection| rejection.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_line_has_the_fields_of_a_row() {
        let row = read(FULL);
        assert_eq!(row.user_id, "7d1f4f0e-5b7a-4c55-9b1e-0c3f6a2d9e01");
        assert_eq!(
            (row.email.as_str(), row.password_hash.as_str()),
            ("Ana@example.com", "$2a$10$x")
        );
        let times = [row.email_verified_at, row.created_at].map(|time| time.unwrap().to_string());
        assert_eq!(
            times,
            ["2024-03-05T09:14:22.500000Z", "2024-03-05T09:12:03.000000Z"]
        );
        assert_eq!(row.roles, ["moderator", "billing"]);
    }

    #[test]
    fn null_is_absent() {
        let row = read(
            r#"{"email": "a@b.c", "user_id": null, "password_hash": null,
            "email_verified_at": null, "created_at": null, "roles": null}"#,
        );
        assert!(row.user_id.is_empty() && row.password_hash.is_empty() && row.roles.is_empty());
        assert!(row.created_at.is_none() && row.email_verified_at.is_none());
        assert_eq!(read("{}\r").email, "");
    }

    #[test]
    fn a_malformed_line_is_described_without_its_values() {
        for (line, expected) in [
            (r#"{"email": 7123456}"#, "email: must be a text"),
            (r#"{"roles": "secret"}"#, "roles: must be a list of texts"),
            (r#"{"roles": [7123456]}"#, "roles: must be a text"),
            (
                r#"{"created_at": "2024-03-05"}"#,
                "created_at: must be a time such as 2026-12-31T00:00:00Z",
            ),
            (
                r#"{"created_at": 1712345678}"#,
                "created_at: must be a text",
            ),
            (
                r#"{"email": "secret", "email": "b"}"#,
                "email: is given twice",
            ),
            (r#"["secret"]"#, "JSON: is not one object (column 0)"),
            (r#""secret""#, "JSON: is not one object (column 8)"),
            (
                r#"{"email": "secret"#,
                "JSON: is not one object (column 17)",
            ),
            (
                r#"{"email": "secret"} {}"#,
                "JSON: is not one object (column 21)",
            ),
            ("email,password_hash", "JSON: is not one object (column 1)"),
        ] {
            assert_eq!(reason(line), expected, "{line}");
        }
        let long = parse(Err(Malformed::TooLong)).err().unwrap().to_string();
        assert_eq!(long, "length: is over 65536 bytes");
        let other = parse(Err(Malformed::NotUtf8)).err().unwrap().to_string();
        assert_eq!(other, "encoding: is not UTF-8");
    }

    #[test]
    fn an_unknown_field_is_named() {
        let reason = |name: &str| reason(&serde_json::json!({ name: 1 }).to_string());
        let known =
            "; there are user_id, email, password_hash, email_verified_at, created_at, roles";
        assert_eq!(
            reason("encrypted_password"),
            format!("unknown field: encrypted_password{known}")
        );
        assert_eq!(reason("Email"), format!("unknown field: Email{known}"));
        assert_eq!(
            reason("a\u{1b}[2J"),
            format!("unknown field: a\u{FFFD}[2J{known}")
        );
        let long = "x".repeat(41);
        assert_eq!(
            reason(&long),
            format!("unknown field: {}..{known}", &long[1..])
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in r#"[{}\[\]":, a-z0-9\\]{0,60}"#) {
            let _ = parse(Ok(&text));
        }

        #[test]
        fn no_reason_has_a_value(field in prop::sample::select(&FIELDS), value in "Zz[a-z]{4,9}") {
            for value in [serde_json::json!(value), serde_json::json!([[value]]), serde_json::json!({ &value: value })] {
                let line = serde_json::json!({ field: value }).to_string();
                prop_assert!(!reason(&line).contains("Zz"));
            }
        }
    }
}
