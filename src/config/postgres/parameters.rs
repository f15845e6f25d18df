//! The parameters of libpq: which are used, and a hint for each one that is not.

use std::collections::BTreeMap;

use super::uri::Given;
use crate::config::value::one_of;

/// Read by this module's siblings.
const USED: [&str; 27] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Values that change nothing here. Any other value would need what is not built in.
const ONLY: [(&str, &[&str], &str); 6] = [
    ("client_encoding", &["UTF8", "UTF-8"], "must be UTF8"),
    (
        "gssencmode",
        &["disable", "prefer"],
        "must be disable or prefer: GSSAPI is not built in, use sslmode",
    ),
    (
        "replication",
        &["false", "off", "no", "0"],
        "must be false: the service runs SQL",
    ),
    (
        "sslcompression",
        &["0", "1"],
        "must be 0 or 1, and changes nothing",
    ),
    ("min_protocol_version", &["3.0"], "must be 3.0"),
    (
        "max_protocol_version",
        &["3.0", "3.2", "latest"],
        "must be 3.0, 3.2 or latest",
    ),
];

const GSSAPI: &str =
    "is not supported, because GSSAPI is not built in: use a password or a client certificate";
const OAUTH: &str = "is not supported: use a password or a client certificate";
const SERVICE: &str = "is not supported: write the settings of the service into the URL";
const REVOCATION: &str = "is not supported, because no revocation list is read: replace the authority in sslrootcert instead";
const SCRAM: &str = "is not supported: use password";

const REFUSED: [(&str, &str); 21] = [
    ("gssdelegation", GSSAPI),
    ("gsslib", GSSAPI),
    ("krbsrvname", GSSAPI),
    ("oauth_client_id", OAUTH),
    ("oauth_client_secret", OAUTH),
    ("oauth_issuer", OAUTH),
    ("oauth_scope", OAUTH),
    (
        "passfile",
        "is not supported: put the password into the URL, and the URL into DATABASE_URL_FILE",
    ),
    (
        "require_auth",
        "is not supported: use channel_binding=require or sslmode=verify-full, so that only the right server gets a password",
    ),
    (
        "requirepeer",
        "is not supported: protect the folder of the socket by its permissions",
    ),
    ("scram_client_key", SCRAM),
    ("scram_server_key", SCRAM),
    ("service", SERVICE),
    ("servicefile", SERVICE),
    ("sslcrl", REVOCATION),
    ("sslcrldir", REVOCATION),
    (
        "sslkeylogfile",
        "is not supported: it would reveal what is encrypted",
    ),
    (
        "sslpassword",
        "is not supported: decrypt the key in sslkey, and protect its file by its permissions",
    ),
    (
        "authtype",
        "is not supported: libpq ignores it since Postgres 14",
    ),
    (
        "tty",
        "is not supported: libpq ignores it since Postgres 14",
    ),
    ("requiressl", "is not supported: use sslmode=require"),
];

/// The parameters of one URL, by libpq's names.
pub(super) struct Parameters {
    texts: BTreeMap<String, String>,
    pub(super) password: Option<Vec<u8>>,
}

impl Parameters {
    /// Refuses what is unknown or has no effect here.
    pub(super) fn check(given: Given) -> Result<Self, String> {
        let mut parameters = Self {
            texts: BTreeMap::new(),
            password: None,
        };
        for (name, value) in given {
            check(&name, &value)?;
            if name == "password" {
                parameters.password = Some(value);
            } else {
                let text = String::from_utf8(value).map_err(|_| format!("{name} must be UTF-8"))?;
                parameters.texts.insert(name, text);
            }
        }
        Ok(parameters)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(USED.contains(&name), "{name}");
        self.texts.get(name).map(String::as_str)
    }

    /// `None` also for an empty text, which libpq takes for "not set" in names and files.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|text| !text.is_empty())
    }

    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, String> {
        let chosen = self.get(name).map(|text| one_of(text, choices));
        chosen.transpose().map_err(|what| format!("{name} {what}"))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i32>, String> {
        let number = self.get(name).map(|text| text.trim().parse());
        let number = number.transpose();
        number.map_err(|_| format!("{name} must be a whole number"))
    }
}

fn check(name: &str, value: &[u8]) -> Result<(), String> {
    if let Some((name, hint)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(format!("{name} {hint}"));
    }
    if let Some((name, values, hint)) = ONLY.iter().find(|(only, ..)| *only == name) {
        let mut values = values.iter();
        let is_allowed = values.any(|allowed| value.eq_ignore_ascii_case(allowed.as_bytes()));
        return is_allowed
            .then_some(())
            .ok_or_else(|| format!("{name} {hint}"));
    }
    let is_used = USED.contains(&name).then_some(());
    is_used.ok_or_else(|| "has an unknown parameter: use the names of libpq".into())
}
