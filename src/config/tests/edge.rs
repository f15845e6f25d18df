//! The configuration of `edge`.

use super::*;
use crate::edge::{Identity, Token, WhenStale};

/// Enough for an edge without a warning.
const EDGE: &str = "--auth-url http://127.0.0.1:50051 --auth-token a-token";

fn loaded(line: &str) -> Result<Edge, Vec<String>> {
    let args = Args::for_test(line).unwrap();
    edge(&args).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn edge_problems(line: &str) -> Vec<String> {
    loaded(line).map(drop).unwrap_err()
}

/// The variables that an edge is warned of.
fn warned(line: &str) -> Vec<String> {
    let warnings = loaded(line).unwrap().warnings();
    let name = |warning: &String| warning.split(':').next().unwrap_or_default().to_owned();
    warnings.iter().map(name).collect()
}

#[test]
fn an_edge_needs_only_the_url_of_the_service() {
    let edge = loaded("--auth-url https://auth:50051").unwrap();
    assert_eq!(edge.edge_addr.to_string(), "127.0.0.1:9001");
    assert_eq!(edge.admin_addr.to_string(), "127.0.0.1:9464");
    assert_eq!(edge.settings.max_staleness, Duration::from_mins(1));
    assert_eq!(edge.settings.when_stale, WhenStale::Serve);
    let watch = edge.settings.watch;
    assert_eq!(watch.urls, ["https://auth:50051"]);
    assert!(watch.token.is_none() && watch.authorities.is_none() && watch.identity.is_none());
    assert_eq!(
        edge_problems(""),
        ["AUTH_URL: is required: where the service is"]
    );
}

#[test]
fn urls_are_a_scheme_a_host_and_a_port() {
    for url in [
        "http://auth:50051",
        "https://auth",
        "https://[::1]:1",
        "http://10.0.0.1:50051",
    ] {
        let line = format!("--auth-url {url},{url}/");
        assert_eq!(loaded(&line).unwrap().settings.watch.urls, [url, url]);
    }
    let what = "must be http://host:port or https://host:port, without a path";
    for url in [
        "auth:50051",
        "grpc://auth:50051",
        "http://",
        "http://:50051",
        "http://auth:0",
        "http://auth:65536",
        "http://auth:",
        "http://auth/path",
        "http://auth/?query",
        "http://user@auth:50051",
        "http://user:hidden@auth:50051",
        "",
    ] {
        let problems = edge_problems(&format!("--auth-url http://auth:1,{url}"));
        assert_eq!(problems, [format!("AUTH_URL: entry 2 {what}")], "{url}");
    }
}

#[test]
fn a_token_comes_from_a_variable_or_a_file_that_is_read_again() {
    let token = |line: &str| loaded(line).unwrap().settings.watch.token;
    let text = token(EDGE);
    assert!(matches!(text, Some(Token::Text(text)) if text.expose_secret() == "a-token"));
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "token", "a-token\n");
    let url = "--auth-url http://127.0.0.1:50051";
    let from_file = token(&format!("{url} --auth-token-file {path}"));
    assert!(matches!(from_file, Some(Token::File(file)) if file == Path::new(&path)));
    let bad = file(&folder, "bad", "ümlaut");
    assert_eq!(
        edge_problems(&format!("{url} --auth-token-file {bad}")),
        ["AUTH_TOKEN_FILE: must be a token of visible ASCII characters"]
    );
    let printed = format!("{:?}", loaded(&format!("{EDGE}-needle")).unwrap());
    assert!(!printed.contains("needle"), "{printed}");
}

#[test]
fn certificates_are_checked_at_the_start() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["edge".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let folder = TempDir::new().unwrap();
    let cert = file(&folder, "cert", &certificate);
    let other = rcgen::KeyPair::generate().unwrap();
    let key = file(&folder, "key", &key.serialize_pem());
    let other = file(&folder, "other", &other.serialize_pem());
    let ca = "src/config/tests/ca.pem";
    let https = "--auth-url https://auth:50051";
    let edge = loaded(&format!(
        "{https} --auth-ca-file {ca} --auth-client-cert-file {cert} --auth-client-key-file {key}"
    ));
    let watch = edge.unwrap().settings.watch;
    assert_eq!(watch.authorities, Some(ca.into()));
    let is_given = |it: &Identity| it.certificate == Path::new(&cert) && it.key == Path::new(&key);
    assert!(watch.identity.is_some_and(|it| is_given(&it)));

    let problems = |line: &str| edge_problems(&format!("{https} {line}")).join("\n");
    let mismatch =
        "AUTH_CLIENT_KEY_FILE: is not the key of the certificate in AUTH_CLIENT_CERT_FILE";
    for (line, problem) in [
        (
            format!("--auth-client-cert-file {cert} --auth-client-key-file {other}"),
            mismatch,
        ),
        (
            format!("--auth-client-cert-file {cert}"),
            "AUTH_CLIENT_CERT_FILE: needs AUTH_CLIENT_KEY_FILE",
        ),
        (
            format!("--auth-client-key-file {key}"),
            "AUTH_CLIENT_KEY_FILE: needs AUTH_CLIENT_CERT_FILE",
        ),
        (
            format!("--auth-client-cert-file {key} --auth-client-key-file {key}"),
            "AUTH_CLIENT_CERT_FILE: holds no certificate (PEM)",
        ),
        (
            "--auth-ca-file /nonexistent".to_owned(),
            "AUTH_CA_FILE: cannot read the file (entity not found)",
        ),
    ] {
        assert_eq!(problems(&line), problem, "{line}");
    }
    assert_eq!(
        edge_problems(&format!("{EDGE} --auth-ca-file {ca}")),
        ["AUTH_CA_FILE: has no effect without a URL of https:// in AUTH_URL"]
    );
}

#[test]
fn wrong_values_are_reported_together() {
    let line = "--edge-addr x --edge-max-staleness 900ms --edge-when-stale wait --log inf0";
    assert_eq!(
        edge_problems(line),
        [
            "EDGE_ADDR: must be an IP address with a port, such as 127.0.0.1:50051",
            "EDGE_MAX_STALENESS: must be a duration from 1s to 1day, such as 90s, 60m or 24h",
            "EDGE_WHEN_STALE: must be one of serve, refuse",
            "LOG: must be off, error, warn, info, debug or trace, or target=level, comma-separated",
            "AUTH_URL: is required: where the service is",
        ]
    );
    assert_eq!(
        edge_problems(&format!("{EDGE} --edge-addr 0.0.0.0:9464")),
        ["ADMIN_ADDR: must not be where EDGE_ADDR is"]
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let none: [&str; 0] = [];
    assert_eq!(warned(EDGE), none);
    assert_eq!(
        warned("--auth-url https://auth:50051 --auth-token a-token"),
        none
    );
    for (line, names) in [
        ("--auth-url http://localhost:50051", vec!["AUTH_TOKEN"]),
        (
            "--auth-url https://a,http://auth:50051 --auth-token x",
            vec!["AUTH_URL"],
        ),
        (
            "--auth-url https://a --auth-token x --edge-addr 0.0.0.0:9001",
            vec!["EDGE_ADDR"],
        ),
        (
            "--auth-url https://a --auth-token x --admin-addr [::]:9464",
            vec!["ADMIN_ADDR"],
        ),
    ] {
        assert_eq!(warned(line), names, "{line}");
    }
}

#[test]
fn the_help_of_edge_shows_only_its_variables() {
    let help = |name: &str| {
        let help = Args::for_test(&format!("{name} --help")).err().unwrap();
        help.to_string()
    };
    let (edge, serve) = (help("edge"), help("serve"));
    let shows = |help: &str, name: &str| help.contains(&format!("{} <", flag(name)));
    for name in names() {
        let of_edge = name.starts_with("EDGE_") || name.starts_with("AUTH_");
        let is_shared = ["ADMIN_ADDR", "LOG", "LOG_FORMAT"].contains(&name.as_str());
        assert_eq!(shows(&edge, &name), of_edge || is_shared, "{name}");
        assert_eq!(shows(&serve, &name), !of_edge, "{name}");
    }
}
