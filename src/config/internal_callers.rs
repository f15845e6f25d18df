use std::net::IpAddr;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{
    reader::Reader,
    secret_text,
    tls::TLS_CLIENT_CA_FILE,
    value::each,
    variable::{secret, value, variables},
};
use crate::{
    grpc::{InternalCallers, InternalToken},
    password,
};

variables! {
    "Callers"

    /// Services that may call GetSigningKey: name:token, comma-separated, a token has at least
    /// 32 characters
    INTERNAL_TOKENS: Vec<InternalToken> = secret("TOKENS", tokens)
        .when_unset("nobody; generated when DATABASE_URL is not set");
    /// Services that may call it with a certificate: the DNS names and URIs (subject alternative
    /// names) of their certificates, comma-separated
    INTERNAL_CLIENT_NAMES: Vec<String> = value("NAMES", client_names);
}

const MIN_TOKEN_CHARS: usize = 32;

pub(super) fn read(reader: &mut Reader<'_>) -> InternalCallers {
    let tokens = read_tokens(reader).unwrap_or_default();
    let needs = "needs TLS_CLIENT_CA_FILE";
    reader.refuse_without(&TLS_CLIENT_CA_FILE, &INTERNAL_CLIENT_NAMES, needs);
    let client_names = reader.optional(&INTERNAL_CLIENT_NAMES).unwrap_or_default();
    InternalCallers::new(tokens, client_names)
}

/// The embedded default keeps the bare token of one caller, `local`.
fn read_tokens(reader: &mut Reader<'_>) -> Option<Vec<InternalToken>> {
    if reader.is_set(&INTERNAL_TOKENS.declaration) {
        return reader.optional(&INTERNAL_TOKENS);
    }
    let encode = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let local = |text: &str| Ok(vec![token("local", text)?]);
    reader.embedded_secret(&INTERNAL_TOKENS, "internal-token", encode, local)
}

fn tokens(text: &str) -> Result<Vec<InternalToken>, String> {
    let tokens = each(text, |entry| {
        let (name, text) = entry.split_once(':').ok_or("must be name:token")?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(legal) {
            return Err("must have a name of letters, digits, '.', '_' and '-'".into());
        }
        token(name, text)
    })?;
    for (index, token) in tokens.iter().enumerate() {
        let is_same =
            |other: &InternalToken| other.name == token.name || other.sha256 == token.sha256;
        if tokens[..index].iter().any(is_same) {
            let number = index + 1;
            return Err(format!(
                "entry {number} has a name or token that is given twice"
            ));
        }
    }
    Ok(tokens)
}

/// Only the token's hash is kept: comparing needs no more.
fn token(name: &str, text: &str) -> Result<InternalToken, String> {
    secret_text::check(text)?;
    // The value of an HTTP header can hold nothing else.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must have a token of visible ASCII characters".into());
    }
    if text.len() < MIN_TOKEN_CHARS {
        return Err(format!(
            "must have a token of at least {MIN_TOKEN_CHARS} characters"
        ));
    }
    Ok(InternalToken {
        name: name.to_owned(),
        sha256: Sha256::digest(text).into(),
        is_guessable: password::is_guessable(text),
    })
}

fn client_names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).map(client_name);
    let names = names.collect::<Option<Vec<_>>>();
    names.ok_or_else(|| {
        "must be DNS names (without wildcards) and URIs such as spiffe://realchat/gateway, comma-separated"
            .into()
    })
}

/// A DNS name in lower case or a URI, as [`crate::tls::certificate`] has them.
fn client_name(text: &str) -> Option<String> {
    if text.contains("://") {
        let legal = text.bytes().all(|byte| byte.is_ascii_graphic());
        return legal.then(|| text.to_owned());
    }
    if text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (!text.is_empty() && text.bytes().all(legal)).then(|| text.to_ascii_lowercase())
}
