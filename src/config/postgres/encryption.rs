//! The parameters that begin with `ssl`, as settings of TLS.

use std::{fs, path::Path, sync::Arc};

use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::parameters::Parameters;
use crate::{
    config::value::{certificates, system_certificates, trusted, unreadable},
    db::Encryption,
    tls::database::{Client, Identity, Trust, Version},
};

const MODES: [(&str, Encryption); 6] = [
    ("disable", Encryption::Never),
    ("allow", Encryption::OnDemand),
    ("prefer", Encryption::IfPossible),
    ("require", Encryption::Required),
    ("verify-ca", Encryption::VerifiedChain),
    ("verify-full", Encryption::VerifiedName),
];

/// The versions before 1.2 are not built in.
const VERSIONS: [(&str, Version); 2] = [("TLSv1.2", Version::Tls12), ("TLSv1.3", Version::Tls13)];

const SWITCH: [(&str, bool); 2] = [("0", false), ("1", true)];

/// Whether the client certificate is sent. (`require` would need the server to ask for it.)
const CERTIFICATE_MODES: [(&str, bool); 2] = [("disable", false), ("allow", true)];

pub(super) fn read(given: &Parameters) -> Result<(Encryption, Arc<ClientConfig>), String> {
    let (encryption, trust) = read_trust(given)?;
    let min = given.choice("ssl_min_protocol_version", &VERSIONS)?;
    let max = given.choice("ssl_max_protocol_version", &VERSIONS)?;
    let (min, max) = (min.unwrap_or(Version::Tls12), max.unwrap_or(Version::Tls13));
    if min > max {
        return Err("ssl_min_protocol_version must not be above ssl_max_protocol_version".into());
    }
    let client = Client {
        trust,
        identity: read_identity(given)?,
        versions: min..=max,
        sends_name: given.choice("sslsni", &SWITCH)?.unwrap_or(true),
    };
    let config = client.config();
    let config = config.map_err(|error| format!("sslcert cannot be used with sslkey ({error})"))?;
    Ok((encryption, Arc::new(config)))
}

/// libpq's table of `sslmode` (its documentation, 32.19), with two differences. A root
/// certificate is refused where a failed check would go on in plain text. `verify-full` without
/// one trusts the system's authorities, where libpq would look for a file in the home folder.
fn read_trust(given: &Parameters) -> Result<(Encryption, Trust), String> {
    use Encryption::{IfPossible, Never, OnDemand, Required, VerifiedChain, VerifiedName};

    let path = given.text("sslrootcert");
    let is_system = path == Some("system");
    let authorities = path.filter(|_| !is_system).map(trusted).transpose();
    let authorities = authorities.map_err(|what| format!("sslrootcert {what}"))?;
    let default = if is_system { VerifiedName } else { IfPossible };
    let mode = given.choice("sslmode", &MODES)?.unwrap_or(default);
    let system = || system_certificates().map_err(|what| format!("sslrootcert {what}"));
    let what = match (mode, authorities) {
        (VerifiedName, Some(authorities)) => return Ok((mode, Trust::Name(authorities))),
        (VerifiedName, None) => return Ok((mode, Trust::Name(system()?))),
        _ if is_system => "sslrootcert=system needs sslmode=verify-full",
        (Required | VerifiedChain, Some(authorities)) => {
            return Ok((VerifiedChain, Trust::Chain(authorities)));
        }
        (Never | OnDemand | IfPossible | Required, None) => return Ok((mode, Trust::Anybody)),
        (VerifiedChain, None) => "sslmode=verify-ca needs sslrootcert",
        (Never, Some(_)) => "sslrootcert has no meaning with sslmode=disable",
        (OnDemand | IfPossible, Some(_)) => {
            "sslrootcert needs sslmode=verify-full, verify-ca or require: without one of them, \
             plain text would follow a failed check"
        }
    };
    Err(what.into())
}

fn read_identity(given: &Parameters) -> Result<Option<Identity>, String> {
    let mode = given.choice("sslcertmode", &CERTIFICATE_MODES)?;
    let (certificate, key) = match (given.text("sslcert"), given.text("sslkey")) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err("sslcert needs sslkey".into()),
        (None, Some(_)) => return Err("sslkey needs sslcert".into()),
        (Some(certificate), Some(key)) => (certificate, key),
    };
    let chain = certificates(certificate).map_err(|what| format!("sslcert {what}"))?;
    let key = read_key(Path::new(key)).map_err(|what| format!("sslkey {what}"))?;
    let key = Identity::parse_key(&key).map_err(|what| format!("sslkey {what}"))?;
    Ok((mode != Some(false)).then_some(Identity { chain, key }))
}

/// libpq's rule: a key of ours is for us alone, and the group may read one of root.
fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    use std::os::unix::fs::MetadataExt as _;

    let file = fs::metadata(path).map_err(|error| unreadable(&error))?;
    let forbidden = if file.uid() == 0 { 0o037 } else { 0o077 };
    if file.mode() & forbidden != 0 {
        return Err(
            "must be a file that others cannot read: make it 0600, or 0640 if it is root's".into(),
        );
    }
    fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| unreadable(&error))
}
