//! What `edge` warns of at its start.

use http::Uri;

use super::exposed::{admin, is_local, is_loopback};
use crate::config::Edge;

impl Edge {
    /// Each begins with the name of a variable, and none shows a value.
    pub fn warnings(&self) -> Vec<String> {
        let watch = &self.settings.watch;
        let found = [
            (
                !is_loopback(self.edge_addr.ip()),
                "EDGE_ADDR: OPEN TO THE NETWORK WITHOUT TLS: tokens can be read on the way, and \
                 everybody can ask whose a token is; allow only gateways to reach this port",
            ),
            (
                watch.urls.iter().any(|url| is_plain_and_remote(url)),
                "AUTH_URL: THE TOKEN AND THE KEYS CROSS THE NETWORK IN PLAIN TEXT: unless \
                 something else encrypts, anybody on the way can sign tokens; use https://",
            ),
            (
                watch.token.is_none() && watch.identity.is_none(),
                "AUTH_TOKEN: IS NOT SET: the service serves only callers with an internal token \
                 or, by AUTH_CLIENT_CERT_FILE, a certificate",
            ),
        ];
        let found = found.into_iter().filter(|(holds, _)| *holds);
        let found = found.map(|(_, text)| text).chain(admin(self.admin_addr));
        found.map(str::to_owned).collect()
    }
}

fn is_plain_and_remote(url: &str) -> bool {
    let host = url
        .parse()
        .ok()
        .and_then(|url: Uri| Some(url.host()?.to_owned()));
    url.starts_with("http://") && host.is_none_or(|host| !is_local(&host))
}
