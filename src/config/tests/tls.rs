//! TLS: the files, and settings that must not be set alone.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::model::Timestamp;

/// A certificate that is valid to the end of 2026, its key, and another key.
struct Files {
    folder: TempDir,
    cert: String,
    key: String,
    other_key: String,
}

fn files() -> Files {
    let folder = TempDir::new().unwrap();
    let mut params = CertificateParams::new(vec!["Auth.Example.com".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2026, 12, 31);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    let other = KeyPair::generate().unwrap();
    Files {
        cert: file(&folder, "cert.pem", &cert.pem()),
        key: file(&folder, "key.pem", &key.serialize_pem()),
        other_key: file(&folder, "other.pem", &other.serialize_pem()),
        folder,
    }
}

#[test]
fn certificate_key_client_ca_and_names_are_read() {
    let Files {
        cert, key, folder, ..
    } = files();
    let ca = file(&folder, "ca.pem", CA);
    let config = load(&format!(
        "--tls-cert-file {cert} --tls-key-file {key} --tls-client-ca-file {ca} \
         --internal-client-names Gateway.internal,spiffe://realchat/Media?a=b \
         --internal-scopes gateway.Internal=keys,spiffe://realchat/Media?a=b=mail"
    ));
    let scopes = |name| config.internal_callers.scopes_of(name).to_string();
    assert_eq!(scopes("gateway.internal"), "keys");
    assert_eq!(scopes("spiffe://realchat/Media?a=b"), "mail");
    let tls = config.tls.unwrap();
    assert_eq!(
        config.internal_callers.names().collect::<Vec<_>>(),
        ["gateway.internal", "spiffe://realchat/Media?a=b"]
    );
    assert_eq!(tls.identity.certificate.names, ["auth.example.com"]);
    let not_after = tls.identity.certificate.not_after;
    assert_eq!(not_after.to_string(), "2026-12-31T00:00:00.000000Z");
    assert!(load("").tls.is_none());
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let Files {
        cert,
        key,
        other_key,
        folder,
    } = files();
    let ca = file(&folder, "ca.pem", CA);
    let pair = format!("--tls-cert-file {cert} --tls-key-file {key}");
    for (options, problem) in [
        (
            format!("--tls-cert-file {cert} --tls-key-file {other_key}"),
            "TLS_KEY_FILE: is not the key of the certificate in TLS_CERT_FILE",
        ),
        (
            format!("--tls-client-ca-file {ca}"),
            "TLS_CLIENT_CA_FILE: needs TLS_CERT_FILE and TLS_KEY_FILE",
        ),
        (
            format!("{pair} --tls-client-ca-file {ca}"),
            "TLS_CLIENT_CA_FILE: has no effect without INTERNAL_CLIENT_NAMES",
        ),
        (
            format!("{pair} --internal-client-names a"),
            "INTERNAL_CLIENT_NAMES: needs TLS_CLIENT_CA_FILE",
        ),
        (
            format!("{pair} --tls-client-ca-file {key} --internal-client-names a"),
            "TLS_CLIENT_CA_FILE: holds no certificate (PEM)",
        ),
    ] {
        assert_eq!(problems(&options), [problem], "{options}");
    }
    for names in ["*.internal", "10.0.0.1", "a,,b", "a b", ""] {
        let base = TempDir::new().unwrap();
        let flag = format!("--internal-client-names={names}");
        let line = format!("auth-service {COMPLETE} {pair} --tls-client-ca-file {ca}");
        let words = line.split(' ').filter(|part| !part.is_empty());
        let args = Args::from_argv(words.chain([flag.as_str()]).map(Into::into)).unwrap();
        let found = lines(Config::load(&args, base.path()));
        assert!(found[0].starts_with("INTERNAL_CLIENT_NAMES: "), "{found:?}");
    }
}

#[test]
fn what_may_be_a_mistake_is_said_aloud() {
    let (spring, winter) = (1_775_000_000, 1_798_500_000);
    let says = |line: &str, now: i64, expected: &[&str]| {
        let line = format!("--internal-tokens a:{OTHER_KEY} {line}");
        let warnings = load(&line).warnings(Timestamp::from_micros(now * 1_000_000));
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    };
    says("", spring, &[]);
    says("--grpc-addr [::1]:1", spring, &[]);
    let without_keys = "TLS: unless something else encrypts, passwords and tokens can be read";
    says("--grpc-addr 0.0.0.0:1", spring, &[without_keys]);
    let with_keys = "passwords, tokens and the signing key can be read";
    let open = "--grpc-addr 0.0.0.0:1 --allow-plaintext-keys true";
    says(open, spring, &[with_keys]);
    says("--grpc-addr 10.0.0.1:1", spring, &["WITHOUT TLS"]);

    let Files {
        cert,
        key,
        folder: _folder,
        ..
    } = files();
    let tls = format!("--grpc-addr 0.0.0.0:1 --tls-cert-file {cert} --tls-key-file {key}");
    let chmod = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o600);
    says(&tls, spring, &[]);
    says(&tls, winter, &["expires on 2026-12-31"]);
    says(&tls, winter + 7 * 86_400, &["EXPIRED on 2026-12-31"]);
    chmod(0o644);
    says(&tls, spring, &["everybody"]);
}
