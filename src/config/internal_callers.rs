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
    grpc::{InternalCallers, InternalToken, Scope, Scopes},
    password,
};

variables! {
    "Callers"

    /// Internal services: name:token, comma-separated, a token has at least 32 characters
    INTERNAL_TOKENS: Vec<InternalToken> = secret("TOKENS", tokens)
        .when_unset("nobody; generated when DATABASE_URL is not set");
    /// Internal services with a certificate: the DNS names and URIs (subject alternative names) of
    /// their certificates, comma-separated
    INTERNAL_CLIENT_NAMES: Vec<String> = value("NAMES", client_names);
    /// Rights of internal services: name=scope+scope, comma-separated, with the scopes keys
    /// (GetSigningKey, Watch), address (x-client-address is believed), mail, admin and import
    INTERNAL_SCOPES: Vec<(String, Scopes)> = value("SCOPES", scopes)
        .when_unset("keys+address for each service; all of them for the generated token");
}

const MIN_TOKEN_CHARS: usize = 32;

/// The caller with the generated token of the embedded default.
const LOCAL: &str = "local";

pub(super) fn read(reader: &mut Reader<'_>) -> InternalCallers {
    let is_generated = reader.is_embedded() && !reader.is_set(&INTERNAL_TOKENS.declaration);
    let needs = "needs TLS_CLIENT_CA_FILE";
    reader.refuse_without(&TLS_CLIENT_CA_FILE, &INTERNAL_CLIENT_NAMES, needs);
    let mut callers = InternalCallers {
        tokens: read_tokens(reader).unwrap_or_default(),
        client_names: reader.optional(&INTERNAL_CLIENT_NAMES).unwrap_or_default(),
        scopes: Vec::new(),
    };
    let granted = reader.optional(&INTERNAL_SCOPES).unwrap_or_default();
    match grant(&callers, &granted) {
        Ok(scopes) => callers.scopes = scopes,
        // A name that is wrong where it is declared is not reported here as well.
        Err(_) if reader.is_reported(&INTERNAL_CLIENT_NAMES.declaration) => {}
        Err(what) => reader.require(false, &INTERNAL_SCOPES, &INTERNAL_TOKENS, what),
    }
    if is_generated && callers.scopes.iter().all(|(name, _)| name != LOCAL) {
        let all = Scope::ALL.into_iter().collect();
        callers.scopes.push((LOCAL.to_owned(), all));
    }
    callers
}

/// The scopes by the names of the services, as the callers have them.
fn grant(
    callers: &InternalCallers,
    granted: &[(String, Scopes)],
) -> Result<Vec<(String, Scopes)>, String> {
    let mut scopes = Vec::new();
    for (index, (name, granted)) in granted.iter().enumerate() {
        let number = index + 1;
        let by_certificate = client_name(name);
        let mut tokens = callers.tokens.iter().map(|token| &token.name);
        let found = tokens.find(|token| *token == name).or_else(|| {
            let mut names = callers.client_names.iter();
            names.find(|name| Some(*name) == by_certificate.as_ref())
        });
        let found = found.ok_or(format!("entry {number} names no internal service"))?;
        if scopes.iter().any(|(named, _)| named == found) {
            return Err(format!("entry {number} names a service again"));
        }
        scopes.push((found.clone(), *granted));
    }
    Ok(scopes)
}

/// The embedded default keeps the bare token of one caller.
fn read_tokens(reader: &mut Reader<'_>) -> Option<Vec<InternalToken>> {
    if reader.is_set(&INTERNAL_TOKENS.declaration) {
        return reader.optional(&INTERNAL_TOKENS);
    }
    let encode = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let local = |text: &str| Ok(vec![token(LOCAL, text)?]);
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

fn scopes(text: &str) -> Result<Vec<(String, Scopes)>, String> {
    each(text, |entry| {
        // A URI may have a `=`.
        let (name, scopes) = entry.rsplit_once('=').ok_or("must be name=scope+scope")?;
        let scopes = scopes.split('+').map(|word| scope(word.trim()));
        let scopes = scopes.collect::<Result<_, _>>()?;
        Ok((name.trim().to_owned(), scopes))
    })
}

fn scope(word: &str) -> Result<Scope, String> {
    let found = Scope::ALL.into_iter().find(|scope| scope.word() == word);
    found.ok_or_else(|| {
        let words = Scope::ALL.map(Scope::word);
        format!("must have scopes of {}, joined by '+'", words.join(", "))
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
