//! Identifies the caller: an internal service, or a user by an access token.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tonic::{Extensions, Request, metadata::MetadataMap};

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
    tokens: Vec<InternalToken>,
    client_names: Vec<String>,
}

impl InternalCallers {
    /// `client_names` are names in certificates; DNS names in lower case.
    pub const fn new(tokens: Vec<InternalToken>, client_names: Vec<String>) -> Self {
        Self {
            tokens,
            client_names,
        }
    }

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

    /// Refuses and audits callers that are no internal service.
    pub(super) fn authorise<T>(&self, request: &Request<T>, audit: Audit<'_>) -> Result<(), Error> {
        let caller = self.identify(request).map(drop);
        caller.ok_or_else(|| {
            audit.failed(Reason::UnknownCaller);
            Error::PermissionDenied
        })
    }

    /// The client's address in an internal service's call. It is ignored from other callers,
    /// which could send any address. An internal service must send one valid address.
    pub(super) fn client_address<T>(
        &self,
        request: &Request<T>,
    ) -> Result<Option<ClientAddress>, Error> {
        let mut values = request.metadata().get_all(CLIENT_ADDRESS).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if self.identify(request).is_none() {
            return Ok(None);
        }
        let address = value.to_str().ok().and_then(ClientAddress::parse);
        if address.is_none() || values.next().is_some() {
            let problem = "must be one IP address without a port";
            return Err(Error::invalid(CLIENT_ADDRESS, problem));
        }
        Ok(address)
    }

    /// The name of the internal service that sent the request. Only its metadata is trusted.
    pub(super) fn identify<T>(&self, request: &Request<T>) -> Option<&str> {
        let mut tokens = bearer_tokens(request.metadata());
        let by_token = tokens.find_map(|token| self.holder(token));
        by_token.or_else(|| self.by_certificate(request.extensions()))
    }

    /// Compares whole names: a wildcard matches only itself.
    fn by_certificate(&self, extensions: &Extensions) -> Option<&str> {
        let names = extensions.get::<ConnectInfo>()?.connection.client_names();
        let allowed = self.client_names.iter().find(|name| names.contains(name));
        allowed.map(String::as_str)
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
/// matter (RFC 9110, 11.1). There may be several: an internal service can send a user's token
/// next to its own.
fn bearer_tokens(metadata: &MetadataMap) -> impl Iterator<Item = &str> {
    let values = metadata.get_all("authorization").iter();
    values.filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn identify(header: Option<&str>) -> Option<String> {
        let token = InternalToken {
            name: "gateway".to_owned(),
            sha256: Sha256::digest(TOKEN).into(),
            is_guessable: true,
        };
        let callers = InternalCallers::new(vec![token], Vec::new());
        let mut request = Request::new(());
        if let Some(header) = header {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", header.parse().unwrap());
        }
        callers.identify(&request).map(str::to_owned)
    }

    #[test]
    fn a_caller_is_known_by_its_whole_token() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let caller = identify(Some(&format!("{scheme} {TOKEN}")));
            assert_eq!(caller.as_deref(), Some("gateway"));
        }
    }

    #[test]
    fn any_other_caller_is_unknown() {
        let almost = format!("Bearer {}", &TOKEN[1..]);
        let basic = format!("Basic {TOKEN}");
        for header in [
            None,
            Some(""),
            Some("Bearer "),
            Some(TOKEN),
            Some(&almost),
            Some(&basic),
        ] {
            assert_eq!(identify(header), None, "{header:?}");
        }
        let none = InternalCallers::new(Vec::new(), Vec::new());
        assert!(none.identify(&Request::new(())).is_none());
    }
}
