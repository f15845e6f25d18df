//! The decision about one request.

use std::sync::Arc;

use http::{
    HeaderName, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use realchat_verifier::{Claims, Refusal};
use tokio::time::Instant;

use super::{Knowledge, Metrics, knowledge::Denial};
use crate::model::{Clock, Roles};

pub struct Checks {
    pub knowledge: Arc<Knowledge>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
}

/// The headers that name the bearer of a valid token. The gateway gives them to the upstream in
/// place of the client's.
pub(super) struct Identity {
    pub(super) user_id: String,
    pub(super) session_id: String,
    /// Comma-separated; empty without roles.
    pub(super) roles: String,
}

pub(super) const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
pub(super) const ROLES: HeaderName = HeaderName::from_static("x-user-roles");

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It has no bearer token.
    Missing,
    /// Its token was not issued by the service, or it has several.
    Invalid,
    Expired,
    /// The session of its token has ended.
    Revoked,
    /// The edge knows too little to accept any token.
    Unavailable,
}

impl Denied {
    pub(super) const ALL: [Self; 5] = [
        Self::Missing,
        Self::Invalid,
        Self::Expired,
        Self::Revoked,
        Self::Unavailable,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unavailable => "unavailable",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// The challenges are those of RFC 6750, section 3.
    pub(super) const fn header(self) -> (HeaderName, &'static str) {
        let challenge = match self {
            Self::Unavailable => return (RETRY_AFTER, "1"),
            Self::Missing => "Bearer",
            Self::Invalid => {
                r#"Bearer error="invalid_token", error_description="The access token is not valid""#
            }
            Self::Expired => {
                r#"Bearer error="invalid_token", error_description="The access token has expired""#
            }
            Self::Revoked => {
                r#"Bearer error="invalid_token", error_description="The session has ended""#
            }
        };
        (WWW_AUTHENTICATE, challenge)
    }
}

impl Checks {
    /// Decides by all values of the header `Authorization`.
    pub(super) fn check<'h>(
        &self,
        authorization: impl Iterator<Item = &'h [u8]>,
    ) -> Result<Identity, Denied> {
        let checked = self.identify(authorization);
        self.metrics.count(checked.as_ref().err().copied());
        checked
    }

    fn identify<'h>(
        &self,
        authorization: impl Iterator<Item = &'h [u8]>,
    ) -> Result<Identity, Denied> {
        let now = Instant::now();
        let token = bearer_token(authorization).map_err(|denied| {
            let answers = self.knowledge.answers(now);
            if answers { denied } else { Denied::Unavailable }
        })?;
        let verified = self.knowledge.verify(token, now, self.clock.now());
        identity(&verified.map_err(denied)?).ok_or(Denied::Invalid)
    }
}

/// The token of the only value. A request with another scheme lacks a token (RFC 6750, section
/// 3.1), and of several values none is tried: the upstream could take another one.
fn bearer_token<'h>(mut values: impl Iterator<Item = &'h [u8]>) -> Result<&'h str, Denied> {
    let value = values.next().ok_or(Denied::Missing)?;
    if values.next().is_some() {
        return Err(Denied::Invalid);
    }
    let value = value.trim_ascii();
    let space = value.iter().position(|&byte| byte == b' ');
    let (scheme, token) = value.split_at(space.ok_or(Denied::Missing)?);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Denied::Missing);
    }
    str::from_utf8(token.trim_ascii_start()).map_err(|_| Denied::Invalid)
}

/// `None` for roles that the service never gives: one with a comma would be two for the upstream.
fn identity(claims: &Claims) -> Option<Identity> {
    Roles::parse(&claims.roles).ok()?;
    Some(Identity {
        user_id: claims.user_id.to_string(),
        session_id: claims.session_id.to_string(),
        roles: claims.roles.join(","),
    })
}

const fn denied(denial: Denial) -> Denied {
    match denial {
        Denial::Unavailable => Denied::Unavailable,
        Denial::Refused(Refusal::Expired) => Denied::Expired,
        Denial::Refused(Refusal::Revoked) => Denied::Revoked,
        Denial::Refused(Refusal::Malformed | Refusal::UnknownKey | Refusal::Foreign) => {
            Denied::Invalid
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token<'a>(values: &[&'a str]) -> Result<&'a str, Denied> {
        bearer_token(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn a_bearer_token_is_found_in_any_case_of_its_scheme() {
        for value in [
            "Bearer a.b.c",
            "bearer a.b.c",
            "BEARER   a.b.c",
            " Bearer a.b.c ",
        ] {
            assert_eq!(token(&[value]), Ok("a.b.c"), "{value}");
        }
    }

    #[test]
    fn a_request_without_a_bearer_token_lacks_one() {
        for value in [
            "",
            " ",
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            "Bearera.b.c",
            "a.b.c",
        ] {
            assert_eq!(token(&[value]), Err(Denied::Missing), "{value}");
        }
        assert_eq!(token(&[]), Err(Denied::Missing));
    }

    #[test]
    fn several_values_are_never_accepted() {
        assert_eq!(
            token(&["Bearer a.b.c", "Bearer a.b.c"]),
            Err(Denied::Invalid)
        );
        assert_eq!(token(&["Basic YTpi", "Bearer a.b.c"]), Err(Denied::Invalid));
        // Envoy joins them: a comma is in no token.
        assert_eq!(
            token(&["Bearer a.b.c,Bearer d.e.f"]),
            Ok("a.b.c,Bearer d.e.f")
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_no_token() {
        let token = bearer_token([&b"Bearer \xff"[..]].into_iter());
        assert_eq!(token, Err(Denied::Invalid));
    }
}
