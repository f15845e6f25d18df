//! A real Postgres behind URLs as psql takes them: which certificates each `sslmode` accepts, when
//! it goes on in plain text, and other places than a host and a port.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::harness::{Authority, Pem, PostgresServer, Process, TestDatabase};

/// The user whose access a test sets. `postgres` may always connect.
const GUEST: &str = "guest";
const ENCRYPTED: &str = "hostssl all guest all trust";
const PLAIN: &str = "hostnossl all guest all trust";
const ANY: &str = "host all guest all trust";

/// A server and files for its URL.
struct Server {
    postgres: PostgresServer,
    database: TestDatabase,
    folder: TempDir,
}

impl Server {
    /// `None` without Postgres; then the test was skipped.
    async fn start() -> Option<Self> {
        let postgres = PostgresServer::start().await?;
        let database = TestDatabase::create_at(&postgres.url(), "").await;
        let role = format!(
            "CREATE ROLE {GUEST} LOGIN PASSWORD 'guest'; GRANT ALL ON SCHEMA public TO {GUEST}"
        );
        database.execute(&role).await;
        let folder = TempDir::new().unwrap();
        Some(Self {
            postgres,
            database,
            folder,
        })
    }

    async fn use_tls(&mut self, pem: &Pem, clients: &Authority, access: &str) {
        let settings = self.postgres.tls(pem, &clients.pem());
        self.postgres.reconfigure(&settings, access).await;
        self.write("server.pem", &pem.certificate);
    }

    /// Writes a file that only we can read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A URL with other places and parameters. A `{}` in the parameters is our folder.
    fn url(&self, places: &str, parameters: &str) -> String {
        let url = self.database.url();
        let name = url.rsplit_once('/').unwrap().1.trim_end_matches('?');
        let folder = self.folder.path().to_str().unwrap();
        format!(
            "postgres://{GUEST}:guest@{places}/{name}?{}",
            parameters.replace("{}", folder)
        )
    }

    fn port(&self) -> String {
        self.postgres.addr().rsplit_once(':').unwrap().1.to_owned()
    }

    async fn migrate(&self, url: &str) -> (Option<i32>, String) {
        let variables = [("DATABASE_URL", url), ("LOG_FORMAT", "text")];
        let ended = Process::run(Path::new("/"), &["migrate"], &variables).await;
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        (ended.code, ended.stderr)
    }

    async fn accepts_url(&self, url: &str) {
        let (code, said) = self.migrate(url).await;
        assert_eq!(code, Some(0), "{url}: {said}");
    }

    async fn accepts(&self, host: &str, parameters: &[&str]) {
        for parameters in parameters {
            let places = format!("{host}:{}", self.port());
            self.accepts_url(&self.url(&places, parameters)).await;
        }
    }

    async fn refuses(&self, host: &str, parameters: &str, expected: &str) {
        let places = format!("{host}:{}", self.port());
        let (code, said) = self.migrate(&self.url(&places, parameters)).await;
        assert_eq!(code, Some(1), "{parameters}");
        assert!(said.contains(expected), "{parameters}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_x509_v1_certificate_connects_where_nothing_is_checked() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    server
        .use_tls(&Pem::version_1(), &Authority::new(), ENCRYPTED)
        .await;
    server
        .accepts(
            "localhost",
            &[
                "",
                "sslmode=allow",
                "sslmode=prefer",
                "sslmode=require",
                "ssl=true",
                "sslmode=require&ssl_max_protocol_version=TLSv1.2",
                "sslmode=require&ssl_min_protocol_version=TLSv1.3",
                "sslmode=require&sslsni=0",
                "sslmode=require&sslnegotiation=direct",
                // As OpenSSL, a certificate that is named itself is trusted.
                "sslmode=verify-ca&sslrootcert={}/server.pem",
                "sslmode=require&sslrootcert={}/server.pem",
            ],
        )
        .await;
    server.accepts("127.0.0.1", &["sslmode=require"]).await;
    server.write("other.pem", &Authority::new().pem());
    for parameters in [
        "sslmode=verify-full&sslrootcert={}/server.pem",
        "sslmode=verify-ca&sslrootcert={}/other.pem",
        "sslmode=require&sslrootcert={}/other.pem",
    ] {
        server
            .refuses("localhost", parameters, "certificate is X.509 v1")
            .await;
    }
    server
        .refuses("localhost", "sslmode=disable", "no pg_hba.conf entry")
        .await;

    // The handshake is signed by the key of the certificate, so its hash binds the password.
    let access = "hostssl all guest all scram-sha-256";
    server
        .use_tls(&Pem::version_1(), &Authority::new(), access)
        .await;
    server
        .accepts("localhost", &["sslmode=require&channel_binding=require"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_checks_what_libpq_checks() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let authority = Authority::new();
    server.write("ca.pem", &authority.pem());
    server.write("other.pem", &Authority::new().pem());
    let chain = "sslmode=verify-ca&sslrootcert={}/ca.pem";
    let name = "sslmode=verify-full&sslrootcert={}/ca.pem";

    server
        .use_tls(&authority.sign(&["db.internal"]), &authority, ANY)
        .await;
    server
        .accepts(
            "localhost",
            &[
                "sslmode=require",
                chain,
                "sslmode=require&sslrootcert={}/ca.pem",
            ],
        )
        .await;
    server
        .refuses("localhost", name, "not valid for name")
        .await;
    server
        .accepts("db.internal", &[&format!("{name}&hostaddr=127.0.0.1")])
        .await;
    for parameters in [chain, name].map(|parameters| parameters.replace("ca.pem", "other.pem")) {
        server
            .refuses("localhost", &parameters, "UnknownIssuer")
            .await;
    }

    server
        .use_tls(&authority.sign_until(&["localhost"], 2020), &authority, ANY)
        .await;
    server.accepts("localhost", &["sslmode=require"]).await;
    server
        .refuses("localhost", chain, "certificate expired")
        .await;

    // Self-signed by `openssl req -x509`: it is an authority, too.
    server
        .use_tls(
            &Pem::self_signed(&["localhost"], true, [2020, 3000]),
            &authority,
            ANY,
        )
        .await;
    let own = "sslrootcert={}/server.pem";
    server
        .accepts(
            "localhost",
            &[
                &format!("sslmode=verify-full&{own}"),
                &format!("sslmode=verify-ca&{own}"),
            ],
        )
        .await;
    server
        .accepts("127.0.0.1", &[&format!("sslmode=verify-ca&{own}")])
        .await;
    server
        .refuses(
            "127.0.0.1",
            &format!("sslmode=verify-full&{own}"),
            "not valid for name",
        )
        .await;
    server
        .use_tls(
            &Pem::self_signed(&["localhost"], false, [2019, 2020]),
            &authority,
            ANY,
        )
        .await;
    server
        .refuses(
            "localhost",
            &format!("sslmode=verify-full&{own}"),
            "certificate expired",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_and_allow_go_on_where_psql_does() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let authority = Authority::new();
    // The server has no TLS.
    server.postgres.reconfigure("", ANY).await;
    server
        .accepts(
            "localhost",
            &["", "sslmode=prefer", "sslmode=allow", "sslmode=disable"],
        )
        .await;
    server
        .refuses(
            "localhost",
            "sslmode=require",
            "server does not support TLS",
        )
        .await;

    // It wants plain text.
    server.use_tls(&Pem::version_1(), &authority, PLAIN).await;
    server
        .accepts(
            "localhost",
            &["", "sslmode=prefer", "sslmode=allow", "sslmode=disable"],
        )
        .await;
    server
        .refuses("localhost", "sslmode=require", "no pg_hba.conf entry")
        .await;

    // It wants TLS.
    server
        .use_tls(&Pem::version_1(), &authority, ENCRYPTED)
        .await;
    server
        .accepts(
            "localhost",
            &["", "sslmode=prefer", "sslmode=allow", "sslmode=require"],
        )
        .await;
    server
        .refuses("localhost", "sslmode=disable", "no pg_hba.conf entry")
        .await;

    // The handshake fails, because there is no common version.
    let old = "ssl_min_protocol_version = 'TLSv1.1'\nssl_max_protocol_version = 'TLSv1.1'\n";
    let settings = server.postgres.tls(&Pem::version_1(), &authority.pem()) + old;
    server.postgres.reconfigure(&settings, ANY).await;
    server
        .accepts(
            "localhost",
            &["", "sslmode=prefer", "sslmode=allow", "sslmode=disable"],
        )
        .await;
    server
        .refuses("localhost", "sslmode=require", "TLS handshake")
        .await;

    // Both ways fail: both causes are named.
    server.postgres.reconfigure(&settings, "").await;
    let (_, said) = server
        .migrate(&server.url(&format!("localhost:{}", server.port()), ""))
        .await;
    assert!(
        said.contains("encrypted: ") && said.contains("; in plain text: "),
        "{said}"
    );
    assert!(!said.contains("guest:guest"), "{said}");
}

/// OpenSSL can use a key of 1024 bits, so psql encrypts in all modes.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_used_is_refused_with_a_hint() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let (certificate, key) = include_str!("rsa_1024.pem")
        .split_once("-----BEGIN PRIVATE")
        .expect("a certificate and its key");
    let pem = Pem {
        certificate: certificate.to_owned(),
        key: format!("-----BEGIN PRIVATE{key}"),
    };
    server.use_tls(&pem, &Authority::new(), ANY).await;
    for parameters in ["", "sslmode=prefer", "sslmode=require"] {
        let hint = "RSA (of 2048 bits or more)";
        server.refuses("localhost", parameters, hint).await;
    }
    server.accepts("localhost", &["sslmode=disable"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_presented() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let clients = Authority::new();
    let access = "hostssl all guest all trust clientcert=verify-ca";
    server.use_tls(&Pem::version_1(), &clients, access).await;
    let Pem { certificate, key } = clients.sign(&["auth-service"]);
    server.write("client.pem", &certificate);
    server.write("client.key", &key);
    let identity = "sslmode=require&sslcert={}/client.pem&sslkey={}/client.key";
    server.accepts("localhost", &[identity]).await;
    server
        .refuses("localhost", "sslmode=require", "valid client certificate")
        .await;
    server
        .refuses(
            "localhost",
            &format!("{identity}&sslcertmode=disable"),
            "valid client certificate",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_found_by_a_socket_an_address_or_one_of_several_hosts() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    server.postgres.reconfigure("", ANY).await;
    let port = server.port();
    let sockets = server.postgres.sockets();
    let encoded = sockets.to_str().unwrap().replace('/', "%2F");
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (places, parameters) in [
        (format!("{encoded}:{port}"), ""),
        (format!("{encoded}:{port}"), "sslmode=require"),
        (String::new(), &format!("host={encoded}&port={port}")),
        (format!(":{port}"), "hostaddr=127.0.0.1"),
        (
            format!("no-such-host.invalid:{port}"),
            "hostaddr=127.0.0.1&sslmode=disable",
        ),
        (
            format!("127.0.0.1:{closed},127.0.0.1:{port}"),
            "target_session_attrs=primary",
        ),
        (
            format!("127.0.0.1:{closed},localhost:{port}"),
            "target_session_attrs=read-write&load_balance_hosts=random",
        ),
        (
            format!("127.0.0.1:{port}"),
            "options=-c%20statement_timeout%3D5s&connect_timeout=0&keepalives=0&application_name=",
        ),
    ] {
        server.accepts_url(&server.url(&places, parameters)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_passed_over_for_the_primary() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let standby = server.postgres.standby().await;
    let (standby, primary) = (standby.addr(), server.postgres.addr());
    for needs in [
        "target_session_attrs=primary",
        "target_session_attrs=read-write",
    ] {
        let places = format!("{standby},{primary}");
        let url = server
            .url(&places, needs)
            .replace("guest:guest@", "postgres@");
        server.accepts_url(&url).await;
    }
    let alone = server
        .url(&standby, "target_session_attrs=primary")
        .replace("guest:guest@", "postgres@");
    let (code, said) = server.migrate(&alone).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("the server is a standby"), "{said}");
}
