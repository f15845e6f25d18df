//! TLS to the service.

use std::{fs, time::Duration};

use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::{FakeService, Sidecar, Tokens, sidecar::SHORT};
use crate::harness::{Authority, Service, TestDatabase, both};

/// A service with a certificate, and the files of an edge.
struct Pki {
    folder: TempDir,
    servers: Authority,
    clients: Authority,
}

impl Pki {
    fn new() -> Self {
        let pki = Self {
            folder: TempDir::new().unwrap(),
            servers: Authority::new(),
            clients: Authority::new(),
        };
        fs::write(pki.file("servers.pem"), pki.servers.pem()).unwrap();
        fs::write(pki.file("clients.pem"), pki.clients.pem()).unwrap();
        pki.clients
            .sign(&["edge.internal"])
            .write(pki.folder.path());
        pki
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Of a server that wants a client certificate.
    fn server(&self) -> ServerTlsConfig {
        let server = self.servers.sign(&["localhost"]);
        ServerTlsConfig::new()
            .identity(Identity::from_pem(server.certificate, server.key))
            .client_ca_root(Certificate::from_pem(self.clients.pem()))
    }

    fn edge(&self, port: u16, more: &[&str]) -> Sidecar {
        let url = format!("https://localhost:{port}");
        let [ca, cert, key] = ["servers.pem", "cert.pem", "key.pem"].map(|name| self.file(name));
        let files = [
            "--auth-ca-file",
            &ca,
            "--auth-client-cert-file",
            &cert,
            "--auth-client-key-file",
            &key,
        ];
        let options = [&["--auth-url", &url], &files[..], more].concat();
        let (mut sidecar, clock) = Sidecar::build(&options);
        sidecar.watch_limits.refused = SHORT;
        Sidecar::run((sidecar, clock))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_shows_its_certificate_and_verifies_that_of_the_service() {
    let (tokens, pki) = (Tokens::new(), Pki::new());
    let service = FakeService::start_with(Some(pki.server())).await;
    let edge = pki.edge(service.addr.port(), &[]);
    let _call = service.follow(&tokens).await;
    edge.wait_until_ready().await;
    // Another authority signed the certificate of the service.
    let stranger = Pki::new();
    fs::copy(pki.file("cert.pem"), stranger.file("cert.pem")).unwrap();
    fs::copy(pki.file("key.pem"), stranger.file("key.pem")).unwrap();
    let _edge = stranger.edge(service.addr.port(), &[]);
    assert!(service.is_quiet(Duration::from_millis(500)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_used_for_the_next_connection() {
    let (tokens, pki, next) = (Tokens::new(), Pki::new(), Pki::new());
    let service = FakeService::start_with(Some(next.server())).await;
    fs::write(pki.file("token"), "the-first-token\n").unwrap();
    let token = pki.file("token");
    let edge = pki.edge(service.addr.port(), &["--auth-token-file", &token]);
    assert!(service.is_quiet(Duration::from_millis(500)).await);
    for name in ["servers.pem", "cert.pem", "key.pem"] {
        fs::copy(next.file(name), pki.file(name)).unwrap();
    }
    let call = service.follow(&tokens).await;
    assert_eq!(call.authorization, ["Bearer the-first-token"]);
    edge.wait_until_ready().await;
    fs::write(token, "the-next-token").unwrap();
    drop(call);
    assert_eq!(
        service.call().await.authorization,
        ["Bearer the-next-token"]
    );
}

both! {
    async fn the_service_accepts_an_edge_by_its_certificate(database: TestDatabase) {
        let pki = Pki::new();
        let server = pki.servers.sign(&["localhost"]);
        fs::write(pki.file("server-cert.pem"), server.certificate).unwrap();
        fs::write(pki.file("server-key.pem"), server.key).unwrap();
        let [cert, key, ca] = ["server-cert.pem", "server-key.pem", "clients.pem"].map(|name| pki.file(name));
        let options = [
            "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-client-ca-file", &ca,
            "--internal-client-names", "edge.internal",
        ];
        let service = Service::start_unconnected(database, &options).await;
        pki.edge(service.addr.port(), &[]).wait_until_ready().await;
    }
}
