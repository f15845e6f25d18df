//! Identifies the caller: an internal service, or a user by an access token.

mod scope;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tonic::{Extensions, Request, metadata::MetadataMap};

pub use self::scope::{Scope, Scopes};
use super::server::ConnectInfo;
use crate::{
    auth::Error,
    model::ClientAddress,
    telemetry::audit::{Audit, Reason},
};

/// Metadata key: the IP address of the client whose call an internal service passes on.
const CLIENT_ADDRESS: &str = "x-client-address";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalToken {
    /// The name of the internal service, for the log.
    pub name: String,
    /// SHA-256 of the token's text.
    pub sha256: [u8; 32],
    /// Whether it is made of words or a pattern.
    pub is_guessable: bool,
}

/// The internal services, identified by their tokens or by the names in their certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalCallers {
    pub tokens: Vec<InternalToken>,
    /// Names in certificates; DNS names in lower case.
    pub client_names: Vec<String>,
    /// The scopes of services by their names. The others have [`Scopes::GATEWAY`].
    pub scopes: Vec<(String, Scopes)>,
}

/// A service whose addresses are believed has sent another value than one plain address.
#[derive(Clone, Copy)]
pub(super) struct MalformedAddress;

pub(super) type ReceivedAddress = Result<Option<ClientAddress>, MalformedAddress>;

impl From<MalformedAddress> for Error {
    fn from(_: MalformedAddress) -> Self {
        Self::invalid(CLIENT_ADDRESS, "must be one IP address without a port")
    }
}

/// The caller by all credentials of a call.
#[derive(Default)]
pub(super) struct Identity<'a> {
    names: Vec<&'a str>,
    scopes: Scopes,
}

impl Identity<'_> {
    /// For the log. `None` if no internal service has sent the call.
    pub(super) fn name(&self) -> Option<String> {
        (!self.names.is_empty()).then(|| self.names.join(","))
    }

    /// Refuses and audits callers without a scope.
    pub(super) fn require(&self, scope: Scope, audit: Audit<'_>) -> Result<(), Error> {
        if self.scopes.has(scope) {
            return Ok(());
        }
        audit.failed(if self.names.is_empty() {
            Reason::UnknownCaller
        } else {
            Reason::MissingScope
        });
        Err(Error::PermissionDenied)
    }

    /// The client's address in the call of a service whose addresses are believed. It is ignored
    /// from other callers, which could send any address. Such a service must send one valid
    /// address.
    pub(super) fn client_address<T>(&self, request: &Request<T>) -> ReceivedAddress {
        let mut values = request.metadata().get_all(CLIENT_ADDRESS).iter();
        let Some(value) = values.next().filter(|_| self.scopes.has(Scope::Address)) else {
            return Ok(None);
        };
        let address = value.to_str().ok().and_then(ClientAddress::parse);
        let is_one = address.is_some() && values.next().is_none();
        if is_one {
            Ok(address)
        } else {
            Err(MalformedAddress)
        }
    }
}

impl InternalCallers {
    pub fn token_hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        self.tokens.iter().map(|token| token.sha256)
    }

    pub fn has_guessable_token(&self) -> bool {
        self.tokens.iter().any(|token| token.is_guessable)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        let tokens = self.tokens.iter().map(|token| token.name.as_str());
        tokens.chain(self.client_names.iter().map(String::as_str))
    }

    pub fn scopes_of(&self, name: &str) -> Scopes {
        let granted = self.scopes.iter().find(|(named, _)| named == name);
        granted.map_or(Scopes::GATEWAY, |(_, scopes)| *scopes)
    }

    /// The internal services that sent the request. Only their metadata is trusted. The scopes
    /// of all credentials add up.
    pub(super) fn identify<T>(&self, request: &Request<T>) -> Identity<'_> {
        let by_token = bearer_tokens(request.metadata()).filter_map(|token| self.holder(token));
        let mut identity = Identity::default();
        for name in by_token.chain(self.by_certificate(request.extensions())) {
            if !identity.names.contains(&name) {
                identity.names.push(name);
                identity.scopes = identity.scopes.union(self.scopes_of(name));
            }
        }
        identity
    }

    /// Compares whole names: a wildcard matches only itself.
    fn by_certificate(&self, extensions: &Extensions) -> impl Iterator<Item = &str> {
        let connection = extensions.get::<ConnectInfo>().map(|info| &info.connection);
        let names = connection.map_or_else(Vec::new, |it| it.client_names().to_vec());
        let allowed = self.client_names.iter();
        allowed
            .filter(move |name| names.contains(name))
            .map(String::as_str)
    }

    /// The access token of the user: the first bearer token that is not an internal one.
    pub(super) fn user_token<'m>(&self, metadata: &'m MetadataMap) -> Option<&'m str> {
        bearer_tokens(metadata).find(|token| self.holder(token).is_none())
    }

    fn holder(&self, token: &str) -> Option<&str> {
        let hash = Sha256::digest(token);
        // No early exit, so the time does not depend on which token matched.
        let mut found = None;
        for token in &self.tokens {
            if hash.ct_eq(&token.sha256).into() {
                found = Some(token.name.as_str());
            }
        }
        found
    }
}

/// The tokens of `authorization: Bearer <token>` (RFC 6750, 2.1). The scheme's case does not
/// matter (RFC 9110, 11.1). There may be several, as several values or joined by commas: an
/// internal service can send a user's token next to its own.
fn bearer_tokens(metadata: &MetadataMap) -> impl Iterator<Item = &str> {
    let values = metadata.get_all("authorization").iter();
    let credentials = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    credentials.filter_map(|credential| {
        let (scheme, token) = credential.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    })
}

#[cfg(test)]
mod tests;
