//! The cookies. Scripts cannot read them (`HttpOnly`), they are sent by HTTPS only
//! (`Secure`), and no subdomain can set them (`__Host-`).

use std::time::UNIX_EPOCH;

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use prost_types::Timestamp;

use crate::proto::TokenPair;

pub struct Cookie {
    name: &'static str,
    same_site: &'static str,
}

/// The session. Requests that another site started do not carry it.
pub const REFRESH_TOKEN: Cookie = Cookie {
    name: "__Host-refresh_token",
    same_site: "Strict",
};

/// The access token, only for the pages without scripts: a page with scripts keeps it in memory.
pub const ACCESS_TOKEN: Cookie = Cookie {
    name: "__Host-access_token",
    same_site: "Strict",
};

/// One word for the next page to say, such as `password-changed`.
pub const NOTICE: Cookie = Cookie {
    name: "__Host-notice",
    same_site: "Strict",
};

/// Marks a device on which the account logged in before. Wrong passwords that others send cannot
/// hold it back. It opens nothing, so it outlives the session, and a link from another site to
/// the login page carries it.
pub const DEVICE: Cookie = Cookie {
    name: "__Host-device",
    same_site: "Lax",
};

/// As the service's default `DEVICE_TOKEN_TTL`; the service decides whether a token has ended.
pub const DEVICE_MAX_AGE: i64 = 90 * 24 * 60 * 60;

/// The refresh token of a session, and the device token if the answer has one.
#[must_use]
pub fn of_session(tokens: &TokenPair, device: Option<&str>) -> Option<Vec<HeaderValue>> {
    let max_age = seconds_until(tokens.refresh_token_expires_at.as_ref());
    let session = REFRESH_TOKEN.set(&tokens.refresh_token, max_age);
    let device = device.map(|token| DEVICE.set(token, DEVICE_MAX_AGE));
    [Some(session), device].into_iter().flatten().collect()
}

/// For `Max-Age`.
#[must_use]
pub fn seconds_until(end: Option<&Timestamp>) -> i64 {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    end.map_or(0, |end| end.seconds.saturating_sub(now).max(0))
}

impl Cookie {
    /// The cookie for `Set-Cookie`. `None` for a token that no header can hold.
    #[must_use]
    pub fn set(&self, token: &str, max_age: i64) -> Option<HeaderValue> {
        let Self { name, same_site } = self;
        let attributes = format!("Path=/; HttpOnly; Secure; SameSite={same_site}");
        let text = format!("{name}={token}; Max-Age={max_age}; {attributes}");
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The cookie for `Set-Cookie` that deletes it.
    #[must_use]
    pub fn delete(&self) -> Option<HeaderValue> {
        self.set("", 0)
    }

    /// The token that a request carries.
    #[must_use]
    pub fn get(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut pairs = cookies
            .flat_map(|line| line.split("; "))
            .filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(name, value)| *name == self.name && !value.is_empty());
        found.map(|(_, token)| token.to_owned())
    }
}
