//! Secrets: each is given as text or as a file (`NAME` or `NAME_FILE`), never both.
//!
//! A signing secret is raw text or `base64:..`; an internal token is kept only as its
//! SHA-256, which is all that comparing needs.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::{Digest, Sha256};

use super::{problem::Problems, value::unreadable};
use crate::{auth::SigningSecrets, grpc::InternalToken};

/// HS256 needs a key as long as its hash (RFC 7518, section 3.2).
const MIN_KEY_BYTES: usize = 32;
const MIN_TOKEN_CHARS: usize = 32;

/// A secret's text, and which variable (or file of the embedded default) it came from.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) origin: String,
    pub(super) text: SecretString,
}

impl Secret {
    /// The secret `name`, from its value or its file. `None` if not set or wrong.
    pub(super) fn read(
        name: &str,
        value: Option<&str>,
        file: Option<&str>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let file_name = format!("{name}_FILE");
        if value.is_some() && file.is_some() {
            problems.add(
                name,
                format!("is set together with {file_name}: keep one of them"),
            );
            return None;
        }
        let text = problems.parse(name, value, |value| Ok(value.into()));
        let content = problems.parse(&file_name, file, |path| read_file(Path::new(path)));
        match (text, content) {
            (Some(text), _) => Some(Self {
                origin: name.to_owned(),
                text,
            }),
            (None, Some(text)) => Some(Self {
                origin: file_name,
                text,
            }),
            (None, None) => None,
        }
    }

    /// Parses the text with `parse`; a problem names the origin.
    pub(super) fn parse<T>(
        &self,
        problems: &mut Problems,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        problems.parse(&self.origin, Some(self.text.expose_secret()), parse)
    }
}

/// The text of a file without its one trailing newline.
pub(super) fn read_file(path: &Path) -> Result<SecretString, String> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line
        .strip_suffix('\r')
        .filter(|_| line.len() < text.len())
        .unwrap_or(line);
    if line.is_empty() {
        Err("the file is empty".into())
    } else {
        Ok(line.into())
    }
}

/// One key of access tokens.
pub(super) fn signing_secret(text: &str) -> Result<SecretSlice<u8>, String> {
    let bytes = match text.strip_prefix("base64:") {
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| "is not valid base64 (standard alphabet, padded) after base64:")?,
        None if text.contains(',') => return Err("must not contain a comma".into()),
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < MIN_KEY_BYTES {
        return Err(format!("must have at least {MIN_KEY_BYTES} bytes"));
    }
    Ok(bytes.into())
}

/// Keys of access tokens, comma-separated.
pub(super) fn signing_secrets(text: &str) -> Result<Vec<SecretSlice<u8>>, String> {
    each(text, |entry| {
        // A space before `base64:` would silently make another key.
        if entry.trim() != entry {
            return Err("has white space beside a comma".into());
        }
        signing_secret(entry)
    })
}

/// Refuses a key that is given twice: its id would be ambiguous, and so would be its age.
pub(super) fn distinct(secrets: &SigningSecrets) -> Result<(), (&'static str, String)> {
    let same = |a: &SecretSlice<u8>, b: &SecretSlice<u8>| a.expose_secret() == b.expose_secret();
    let current = &secrets.current;
    if secrets
        .next
        .as_ref()
        .is_some_and(|next| same(next, current))
    {
        return Err(("JWT_NEXT_SECRET", "is the same key as JWT_SECRET".into()));
    }
    for (index, key) in secrets.previous.iter().enumerate() {
        let mut others = secrets.previous[..index]
            .iter()
            .chain(&secrets.next)
            .chain([current]);
        if others.any(|other| same(key, other)) {
            let what = format!("entry {} is a key that is given twice", index + 1);
            return Err(("JWT_PREVIOUS_SECRETS", what));
        }
    }
    Ok(())
}

/// `name:token`, comma-separated.
pub(super) fn internal_tokens(text: &str) -> Result<Vec<InternalToken>, String> {
    let tokens = each(text, |entry| {
        let (name, token) = entry.split_once(':').ok_or("must be name:token")?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(legal) {
            return Err("must have a name of letters, digits, '.', '_' and '-'".into());
        }
        internal_token(name, token)
    })?;
    for (index, token) in tokens.iter().enumerate() {
        let twice =
            |other: &InternalToken| other.name == token.name || other.sha256 == token.sha256;
        if tokens[..index].iter().any(twice) {
            return Err(format!(
                "entry {} has a name or token that is given twice",
                index + 1
            ));
        }
    }
    Ok(tokens)
}

/// One token of the caller `name`.
pub(super) fn internal_token(name: &str, token: &str) -> Result<InternalToken, String> {
    // A header's value can hold nothing else.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must have a token of visible ASCII characters".into());
    }
    if token.len() < MIN_TOKEN_CHARS {
        return Err(format!(
            "must have a token of at least {MIN_TOKEN_CHARS} characters"
        ));
    }
    Ok(InternalToken {
        name: name.to_owned(),
        sha256: Sha256::digest(token).into(),
    })
}

/// Parses each comma-separated entry; an error says which one by its number.
fn each<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let parsed = text.split(',').enumerate();
    parsed
        .map(|(index, entry)| parse(entry).map_err(|what| format!("entry {} {what}", index + 1)))
        .collect()
}
