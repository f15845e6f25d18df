//! Which URLs are accepted, and which settings Postgres gets beside its URL.

use super::*;
use crate::db::{Postgres, Trust, Url};

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
        let found = problems_alone(&format!("--jwt-secret {KEY} --database-url {url}"));
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
    assert!(matches!(&postgres.trust, Trust::Authorities(roots) if roots.len() == 1));
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
    assert!(matches!(postgres.trust, Trust::Anybody));
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
