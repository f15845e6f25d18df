//! Which URLs are accepted, and which settings Postgres gets beside its URL.

use super::*;
use crate::db::{Encryption, Postgres, Url};

fn postgres(url: &str) -> Postgres {
    let args = Args::for_test(&format!("--database-url {url}")).unwrap();
    match database::database(&args, Path::new("")).unwrap().url {
        Url::Postgres(config) => *config,
        Url::Sqlite(_) => panic!("not Postgres"),
    }
}

#[test]
fn a_sqlite_url_is_relative_with_two_slashes_and_absolute_with_three() {
    let folder = TempDir::new().unwrap();
    let absolute = folder.path().join("a.db");
    for (url, path) in [
        ("sqlite://a.db".to_owned(), Path::new("a.db")),
        ("sqlite://src/a.db".to_owned(), Path::new("src/a.db")),
        (format!("sqlite://{}", absolute.display()), &absolute),
    ] {
        let args = Args::for_test(&format!("--database-url {url}")).unwrap();
        let config = database::database(&args, Path::new("/nonexistent")).unwrap();
        assert!(matches!(config.url, Url::Sqlite(found) if found == path));
    }
}

#[test]
fn a_database_url_that_names_nothing_usable_is_a_problem() {
    for line in include_str!("bad_urls.txt").lines() {
        let (url, problem) = line.split_once(" => ").unwrap();
        let found = problems_alone(&format!(
            "--jwt-secret {KEY} --data-key {DATA_KEY} --database-url {url}"
        ));
        assert_eq!(found, [format!("DATABASE_URL: {problem}")], "{url}");
    }
}

#[test]
fn a_postgres_url_may_name_several_hosts_and_any_sslmode() {
    use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
    let folder = TempDir::new().unwrap();
    let ca = file(&folder, "the ca@home.pem", CA);
    let encoded = ca.replace(' ', "%20").replace('@', "%40");
    let postgres = postgres(&format!(
        "postgresql://u:p?w@h1:5432,h2:5433/db?sslmode=verify-full&target_session_attrs=read-write&sslrootcert={encoded}&connect_timeout=7"
    ));
    assert_eq!(postgres.encryption, Encryption::VerifiedName);
    assert_eq!(postgres.servers.len(), 2);
    for (config, (host, port)) in postgres.servers.iter().zip([("h1", 5432), ("h2", 5433)]) {
        assert_eq!(config.get_hosts(), [Host::Tcp(host.into())]);
        assert_eq!(
            (config.get_ports(), config.get_dbname()),
            (&[port][..], Some("db"))
        );
        assert_eq!(config.get_password(), Some(&b"p?w"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(
            config.get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
    }
}

#[test]
fn a_bare_postgres_url_gets_time_limits_and_a_name() {
    let postgres = postgres("postgres://h");
    assert_eq!(postgres.encryption, Encryption::IfPossible);
    let [config] = &postgres.servers[..] else {
        panic!("one host is one server")
    };
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(2)));
    assert_eq!(
        config.get_tcp_user_timeout(),
        Some(&Duration::from_secs(10))
    );
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));
    assert_eq!(config.get_application_name(), Some("auth-service"));
}

#[test]
fn the_parameters_of_libpq_have_libpqs_meaning() {
    use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslMode, SslNegotiation};
    let all = postgres(
        "postgres:///?user=u&password=p&dbname=d&host=a,b&port=1&hostaddr=10.0.0.1,::1\
         &application_name=x&fallback_application_name=y&options=-c%20a%3Db&client_encoding=utf8\
         &connect_timeout=0&tcp_user_timeout=1500&keepalives=0&keepalives_idle=7\
         &keepalives_interval=8&keepalives_count=9&gssencmode=prefer&sslcompression=0&sslsni=0\
         &ssl_min_protocol_version=TLSv1.3&channel_binding=require&load_balance_hosts=random\
         &target_session_attrs=primary&sslmode=require&sslnegotiation=direct&sslcertmode=allow",
    );
    assert!(all.needs_primary && all.in_random_order && !all.tls.enable_sni);
    assert_eq!(all.encryption, Encryption::Required);
    let [first, second] = &all.servers[..] else {
        panic!("two hosts are two servers")
    };
    assert_eq!(first.get_hosts(), [Host::Tcp("a".into())]);
    assert_eq!(
        second.get_hostaddrs(),
        ["::1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(
        (first.get_ports(), second.get_ports()),
        (&[1][..], &[1][..])
    );
    assert_eq!(
        (first.get_user(), first.get_dbname()),
        (Some("u"), Some("d"))
    );
    assert_eq!(first.get_options(), Some("-c a=b"));
    assert_eq!(first.get_application_name(), Some("x"));
    assert_eq!(first.get_connect_timeout(), None);
    assert_eq!(
        first.get_tcp_user_timeout(),
        Some(&Duration::from_millis(1500))
    );
    assert_eq!(
        first.get_keepalives_interval(),
        Some(Duration::from_secs(8))
    );
    assert_eq!(first.get_keepalives_retries(), Some(9));
    assert!(!first.get_keepalives());
    assert_eq!(first.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(first.get_load_balance_hosts(), LoadBalanceHosts::Random);
    assert_eq!(first.get_ssl_negotiation(), SslNegotiation::Direct);

    let socket =
        postgres("postgres://u@%2Frun%2Fpg:7/d?fallback_application_name=y&sslmode=require");
    let [socket] = &socket.servers[..] else {
        panic!("one")
    };
    assert_eq!(socket.get_hosts(), [Host::Unix("/run/pg".into())]);
    assert_eq!(
        (socket.get_ports(), socket.get_ssl_mode()),
        (&[7][..], SslMode::Disable)
    );
    assert_eq!(socket.get_application_name(), Some("y"));

    let address = postgres("postgres://[::1]:7,h/d?load_balance_hosts=disable");
    assert_eq!(address.servers[0].get_hosts(), [Host::Tcp("::1".into())]);
    assert_eq!(address.servers[1].get_ports(), [5432]);
    let alone = postgres("postgres://?hostaddr=10.0.0.1");
    assert_eq!(alone.servers[0].get_hosts(), [Host::Tcp("10.0.0.1".into())]);
}

#[test]
fn every_sslmode_of_libpq_is_one_of_ours() {
    let folder = TempDir::new().unwrap();
    let ca = file(&folder, "ca.pem", CA);
    for (parameters, expected) in [
        ("", Encryption::IfPossible),
        ("sslmode=disable", Encryption::Never),
        ("sslmode=allow", Encryption::OnDemand),
        ("sslmode=prefer", Encryption::IfPossible),
        ("sslmode=require", Encryption::Required),
        ("ssl=true", Encryption::Required),
        ("sslmode=require&sslrootcert=", Encryption::Required),
        (
            &format!("sslmode=require&sslrootcert={ca}"),
            Encryption::VerifiedChain,
        ),
        (
            &format!("sslmode=verify-ca&sslrootcert={ca}"),
            Encryption::VerifiedChain,
        ),
        (
            &format!("sslmode=verify-full&sslrootcert={ca}"),
            Encryption::VerifiedName,
        ),
        ("sslrootcert=system", Encryption::VerifiedName),
        ("sslmode=verify-full", Encryption::VerifiedName),
    ] {
        let url = format!("postgres://h?{parameters}");
        assert_eq!(postgres(&url).encryption, expected, "{url}");
    }
}

/// The problem of a URL whose parameters these are.
fn refusal(parameters: &str) -> String {
    let url = format!("postgres://user:needle@h/needle?{parameters}");
    let found = problems_alone(&format!(
        "--jwt-secret {KEY} --data-key {DATA_KEY} --database-url {url}"
    ));
    let [problem] = &found[..] else {
        panic!("{parameters}: {found:?}")
    };
    assert!(!problem.contains("needle"), "{problem}");
    problem.strip_prefix("DATABASE_URL: ").unwrap().to_owned()
}

#[test]
fn a_parameter_that_cannot_be_obeyed_is_refused_by_its_name() {
    for name in [
        "service",
        "servicefile",
        "passfile",
        "require_auth",
        "requirepeer",
        "sslcrl",
        "sslcrldir",
        "sslpassword",
        "sslkeylogfile",
        "krbsrvname",
        "gsslib",
        "gssdelegation",
        "oauth_issuer",
        "oauth_client_id",
        "oauth_client_secret",
        "oauth_scope",
        "scram_client_key",
        "scram_server_key",
        "gssencmode",
        "replication",
        "client_encoding",
        "sslmode",
        "sslnegotiation",
        "channel_binding",
        "target_session_attrs",
        "load_balance_hosts",
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "sslsni",
        "sslcertmode",
        "sslcompression",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "min_protocol_version",
        "max_protocol_version",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "hostaddr",
        "port",
    ] {
        let problem = refusal(&format!("{name}=needle"));
        let named = problem.split([' ', '=']).next().unwrap();
        assert_eq!(named, name, "{problem}");
        assert!(problem.len() > name.len() + 10, "{problem} has no hint");
    }
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_refused() {
    let folder = TempDir::new().unwrap();
    let ca = file(&folder, "ca.pem", CA);
    let empty = file(&folder, "empty.pem", "");
    let params = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let [key, other] = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
    let cert = file(
        &folder,
        "cert.pem",
        &params.self_signed(&key).unwrap().pem(),
    );
    let private = |name, key: &rcgen::KeyPair| {
        let path = file(&folder, name, &key.serialize_pem());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (key, other) = (private("key.pem", &key), private("other.pem", &other));
    let open = file(&folder, "open.pem", &fs::read_to_string(&key).unwrap());
    postgres(&format!(
        "postgres://h?sslmode=require&sslcert={cert}&sslkey={key}"
    ));
    for (parameters, expected) in [
        (
            format!("sslrootcert={empty}"),
            "sslrootcert holds no certificate (PEM)",
        ),
        (
            format!("sslrootcert={key}"),
            "sslrootcert holds no certificate (PEM)",
        ),
        (format!("sslrootcert={ca}"), "sslrootcert needs sslmode="),
        (
            format!("sslmode=disable&sslrootcert={ca}"),
            "sslrootcert has no meaning",
        ),
        (
            "sslmode=require&sslrootcert=system".to_owned(),
            "sslrootcert=system needs sslmode=verify-full",
        ),
        (
            "sslmode=verify-ca".to_owned(),
            "sslmode=verify-ca needs sslrootcert",
        ),
        (format!("sslcert={cert}"), "sslcert needs sslkey"),
        (format!("sslkey={key}"), "sslkey needs sslcert"),
        (
            format!("sslcert={cert}&sslkey={other}"),
            "sslcert cannot be used with sslkey",
        ),
        (
            format!("sslcert={cert}&sslkey={cert}"),
            "sslkey must be a file that others cannot read",
        ),
        (
            format!("sslcert={cert}&sslkey={open}"),
            "sslkey must be a file that others cannot read",
        ),
        (
            format!("sslcert={key}&sslkey={key}"),
            "sslcert holds no certificate (PEM)",
        ),
    ] {
        let problem = refusal(&parameters);
        assert!(problem.starts_with(expected), "{parameters}: {problem}");
    }
}

#[test]
fn the_database_alone_needs_no_other_variable() {
    let args =
        Args::for_test("migrate --database-url sqlite://a.db --bcrypt-cost x --tls-key-file x");
    assert!(database::database(&args.unwrap(), Path::new("")).is_ok());
    let args = Args::for_test("migrate --database-max-connections x").unwrap();
    let base = TempDir::new().unwrap();
    assert_eq!(database::database(&args, base.path()).unwrap_err().len(), 1);
    assert!(!base.path().join("data").exists());

    let args = Args::for_test("migrate").unwrap();
    database::database(&args, base.path()).unwrap();
    assert_eq!(mode(&base.path().join("data")), 0o700);
    assert!(!base.path().join("data/jwt-secret").exists());
}
