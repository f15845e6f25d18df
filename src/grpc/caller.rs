//! Who is asking: an internal service, or the bearer of an access token.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tonic::metadata::MetadataMap;
use tracing::{info, warn};

use crate::{auth::Error, config::InternalToken};

/// The internal services, known by their tokens. Without any, nobody is one.
pub struct InternalCallers(Vec<InternalToken>);

impl InternalCallers {
    /// Those that hold one of the tokens.
    #[must_use]
    pub const fn new(tokens: Vec<InternalToken>) -> Self {
        Self(tokens)
    }

    /// Lets only an internal service pass, and logs who asked for what.
    pub(super) fn authorise(&self, metadata: &MetadataMap, what: &str) -> Result<(), Error> {
        match self.identify(metadata) {
            Some(caller) => {
                info!(caller, "{what} granted");
                Ok(())
            }
            None => {
                warn!(caller = "unknown", "{what} denied");
                Err(Error::PermissionDenied)
            }
        }
    }

    fn identify(&self, metadata: &MetadataMap) -> Option<&str> {
        let hash = Sha256::digest(bearer_token(metadata)?);
        // No early exit: the time says nothing about which token came close.
        let mut found = None;
        for token in &self.0 {
            if hash.ct_eq(&token.sha256).into() {
                found = Some(token.name.as_str());
            }
        }
        found
    }
}

/// The credentials of `authorization: Bearer <token>` (RFC 6750, 2.1); the scheme's case
/// does not matter (RFC 9110, 11.1).
pub(super) fn bearer_token(metadata: &MetadataMap) -> Option<&str> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn identify(header: Option<&str>) -> Option<String> {
        let callers = InternalCallers::new(vec![InternalToken {
            name: "gateway".to_owned(),
            sha256: Sha256::digest(TOKEN).into(),
        }]);
        let mut metadata = MetadataMap::new();
        if let Some(header) = header {
            metadata.insert("authorization", header.parse().unwrap());
        }
        callers.identify(&metadata).map(str::to_owned)
    }

    #[test]
    fn a_caller_is_known_by_its_whole_token() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let caller = identify(Some(&format!("{scheme} {TOKEN}")));
            assert_eq!(caller.as_deref(), Some("gateway"));
        }
    }

    #[test]
    fn anybody_else_is_unknown() {
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
        let nobody = InternalCallers::new(Vec::new());
        assert!(nobody.identify(&MetadataMap::new()).is_none());
    }
}
