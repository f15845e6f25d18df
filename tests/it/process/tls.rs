//! TLS on the gRPC port: which clients may connect, which count as internal services, and new
//! certificates without a restart.

use std::{fs, io, net::SocketAddr, sync::Arc, time::Duration};

use auth_service::{proto::auth_service_client::AuthServiceClient, tls};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use crate::harness::{
    Authority, Backend, INTERNAL_TOKEN, OnBackend, Pem, Process, Service, TestDatabase, bearer,
    both, eventually, login, reason, refused, register, signing_keys,
};

const NAMES: &str = "gateway.internal, spiffe://realchat/media";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An authority for servers, one for clients, and a folder with the files of a server.
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
        pki.servers.sign(&["localhost"]).write(pki.folder.path());
        fs::write(pki.folder.path().join("clients.pem"), pki.clients.pem()).unwrap();
        pki
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

/// The service with TLS, and the authorities that it trusts.
struct Secured {
    service: Service,
    pki: Pki,
}

impl OnBackend for Secured {
    async fn on(backend: Backend) -> Option<Self> {
        let database = TestDatabase::create(backend).await?;
        Some(Self::start(database, []).await)
    }
}

impl Secured {
    async fn start<const N: usize>(database: TestDatabase, options: [[&str; 2]; N]) -> Self {
        let pki = Pki::new();
        let [cert, key, ca] = ["cert.pem", "key.pem", "clients.pem"].map(|name| pki.file(name));
        let tls = [
            ["--tls-cert-file", &cert],
            ["--tls-key-file", &key],
            ["--tls-client-ca-file", &ca],
            ["--internal-client-names", NAMES],
        ];
        let options = [tls.as_flattened(), options.as_flattened()].concat();
        let service = Service::start_unconnected(database, &options).await;
        Self { service, pki }
    }

    /// A connection with this client certificate.
    async fn connect(&self, identity: Option<&Pem>) -> Result<Channel, tonic::transport::Error> {
        connect(self.service.addr, &self.pki.servers, identity).await
    }
}

async fn connect(
    addr: SocketAddr,
    servers: &Authority,
    identity: Option<&Pem>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(servers.pem()))
        .domain_name("localhost");
    if let Some(Pem { certificate, key }) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Channel::from_shared(format!("https://{addr}")).unwrap();
    endpoint.tls_config(tls)?.connect().await
}

/// Sends the HTTP/2 preface over TLS. Returns the first bytes of the answer, or why there is none.
async fn send_preface(
    addr: SocketAddr,
    mut config: ClientConfig,
    alpn: &[&[u8]],
) -> io::Result<[u8; 9]> {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await?;
    stream.write_all(PREFACE).await?;
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).await?;
    Ok(settings)
}

fn client_config(servers: &Authority) -> ClientConfig {
    tls::client(Arc::new(
        tls::authorities(servers.pem().as_bytes()).unwrap(),
    ))
}

fn client_config_with(servers: &Authority, identity: &Pem) -> ClientConfig {
    let roots = tls::authorities(servers.pem().as_bytes()).unwrap();
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap()
}

both! {
    async fn calls_are_answered_over_tls(secured: Secured) {
        let mut client = AuthServiceClient::new(secured.connect(None).await.unwrap());
        client.register(register("ana@example.com")).await.unwrap();
        client.login(login("ana@example.com")).await.unwrap();
    }

    async fn a_certificate_with_an_allowed_name_gets_the_keys(secured: Secured) {
        for names in [
            &["gateway.internal"][..],
            &["GATEWAY.Internal"],
            &["other.internal", "gateway.internal"],
            &["spiffe://realchat/media"],
        ] {
            let identity = secured.pki.clients.sign(names);
            let channel = secured.connect(Some(&identity)).await.unwrap();
            assert!(signing_keys(channel, None).await.is_ok(), "{names:?}");
        }
    }

    async fn any_other_certificate_is_served_but_gets_no_keys(secured: Secured) {
        for names in [
            &[][..],
            &["other.internal"],
            &["gateway.internal.example.com"],
            &["x.gateway.internal"],
            &["*.internal"],
            &["spiffe://realchat/MEDIA"],
            &["spiffe://realchat/media/x"],
        ] {
            let identity = secured.pki.clients.sign(names);
            let channel = secured.connect(Some(&identity)).await.unwrap();
            let denied = refused(signing_keys(channel.clone(), None).await);
            assert_eq!(reason(&denied), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
            assert!(signing_keys(channel, Some(&bearer(INTERNAL_TOKEN))).await.is_ok(), "{names:?}");
        }
    }

    async fn a_stated_address_is_used_from_an_allowed_certificate_only(secured: Secured) {
        for (name, is_read) in [("gateway.internal", true), ("other.internal", false)] {
            let identity = secured.pki.clients.sign(&[name]);
            let mut client = AuthServiceClient::new(secured.connect(Some(&identity)).await.unwrap());
            let mut request = Request::new(login("ana@example.com"));
            request.metadata_mut().insert("x-client-address", "no address".parse().unwrap());
            let (code, _) = reason(&refused(client.login(request).await));
            let expected = if is_read { Code::InvalidArgument } else { Code::Unauthenticated };
            assert_eq!(code, expected, "{name}");
        }
    }

    async fn the_scopes_of_a_certificate_and_a_token_add_up(database: TestDatabase) {
        let scopes = "gateway.internal=address,gateway=keys";
        let secured = Secured::start(database, [["--internal-scopes", scopes]]).await;
        let identity = secured.pki.clients.sign(&["gateway.internal"]);
        let token = bearer(INTERNAL_TOKEN);
        let denied = Code::PermissionDenied;
        for (identity, token, keys, login_code) in [
            (Some(&identity), None, denied, Code::InvalidArgument),
            (None, Some(&*token), Code::Ok, Code::Unauthenticated),
            (Some(&identity), Some(&*token), Code::Ok, Code::InvalidArgument),
        ] {
            let channel = secured.connect(identity).await.unwrap();
            let found = signing_keys(channel.clone(), token).await;
            assert_eq!(found.map_or_else(|refusal| refusal.code(), |_| Code::Ok), keys);
            let mut request = Request::new(login("ana@example.com"));
            let metadata = request.metadata_mut();
            metadata.insert("x-client-address", "no address".parse().unwrap());
            if let Some(token) = token {
                metadata.insert("authorization", token.parse().unwrap());
            }
            let refusal = refused(AuthServiceClient::new(channel).login(request).await);
            assert_eq!(refusal.code(), login_code);
        }
    }

    async fn without_a_certificate_the_token_counts(secured: Secured) {
        let channel = secured.connect(None).await.unwrap();
        assert_eq!(refused(signing_keys(channel.clone(), None).await).code(), Code::PermissionDenied);
        assert!(signing_keys(channel, Some(&bearer(INTERNAL_TOKEN))).await.is_ok());
    }

    async fn a_certificate_of_another_authority_is_refused_in_the_handshake(secured: Secured) {
        let servers = &secured.pki.servers;
        let ours = secured.pki.clients.sign(&["gateway.internal"]);
        let answered = send_preface(secured.service.addr, client_config_with(servers, &ours), &[b"h2"]);
        answered.await.unwrap();
        // The authority of the server's certificate does not sign clients either.
        for authority in [&Authority::new(), servers] {
            let theirs = authority.sign(&["gateway.internal"]);
            let config = client_config_with(servers, &theirs);
            let refusal = send_preface(secured.service.addr, config, &[b"h2"]).await.unwrap_err();
            assert!(refusal.to_string().contains("fatal alert"), "{refusal}");
        }
    }

    async fn only_http_2_is_spoken(secured: Secured) {
        let config = || client_config(&secured.pki.servers);
        let settings = send_preface(secured.service.addr, config(), &[b"http/1.1", b"h2"]).await.unwrap();
        assert_eq!(settings[3], 4, "the type of a SETTINGS frame");
        for alpn in [&[][..], &[b"http/1.1".as_slice()]] {
            assert!(send_preface(secured.service.addr, config(), alpn).await.is_err(), "{alpn:?}");
        }
    }

    async fn a_client_without_tls_is_refused(secured: Secured) {
        let mut stream = TcpStream::connect(secured.service.addr).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let mut answer = Vec::new();
        // The server sends at most an alert, then closes the connection.
        let end = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok() && answer.len() < 20, "{answer:?}");
    }

    async fn a_failed_handshake_is_logged_with_its_reason(database: TestDatabase) {
        let pki = Pki::new();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| pki.file(name));
        let files = [("TLS_CERT_FILE", cert.as_str()), ("TLS_KEY_FILE", key.as_str())];
        let process = Process::serve(&database, &files);
        let addr = process.grpc_addr().await;
        // Load balancers do this to check that the port is open.
        drop(TcpStream::connect(addr).await.unwrap());
        assert!(connect(addr, &pki.clients, None).await.is_err());
        let line = process.wait_for("a TLS handshake failed").await;
        assert!(line.contains("received fatal alert") && line.contains("\"client\":\"127.0.0.1:"), "{line}");
        for _ in 0..100 {
            assert!(send_preface(addr, client_config(&pki.servers), &[]).await.is_err());
        }
        connect(addr, &pki.servers, None).await.expect("others are served");
        process.signal("TERM");
        let sum = process.wait_for("more lines of one kind: a TLS handshake failed").await;
        assert!(sum.contains("\"count\":"), "{sum}");
        let in_full = process.log().into_iter().filter(|line| line.contains("\"client\":")).count();
        assert!(in_full < 50, "a flood does not flood the log: {in_full} lines");
    }

    async fn a_failed_handshake_is_counted(secured: Secured) {
        let config = client_config(&secured.pki.servers);
        assert!(send_preface(secured.service.addr, config, &[]).await.is_err());
        // The client knows of the failure before the server does.
        eventually(async || {
            let (_, metrics) = secured.service.probe("/metrics").await;
            metrics.contains("auth_tls_handshakes_failed_total 1\n")
        })
        .await;
    }

    async fn an_unfinished_handshake_is_closed_and_delays_no_other_client(secured: Secured) {
        let mut silent = Vec::new();
        for _ in 0..1000 {
            let mut stream = TcpStream::connect(secured.service.addr).await.unwrap();
            // The header of a ClientHello. The rest never comes.
            stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
            silent.push(stream);
        }
        let mut client = AuthServiceClient::new(secured.connect(None).await.unwrap());
        client.register(register("ana@example.com")).await.unwrap();
        for mut stream in silent {
            let mut answer = Vec::new();
            let end = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
            assert!(end.is_ok(), "it is closed");
        }
    }

    async fn an_unfinished_handshake_does_not_delay_the_exit(secured: Secured) {
        let mut stream = TcpStream::connect(secured.service.addr).await.unwrap();
        stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        // This client came later and is served, so the silent one is accepted too.
        secured.connect(None).await.unwrap();
        let ended = timeout(Duration::from_secs(5), secured.service.stop()).await;
        ended.expect("at once").0.unwrap();
    }

    async fn new_files_are_used_and_open_connections_go_on(secured: Secured) {
        let before = secured.connect(None).await.unwrap();
        let (other, clients) = (Authority::new(), Authority::new());
        assert_expires(&secured.service, "32503680000").await;
        other.sign_until(&["localhost"], 2100).write(secured.pki.folder.path());
        fs::write(secured.pki.file("clients.pem"), clients.pem()).unwrap();

        let addr = secured.service.addr;
        let identity = clients.sign(&["gateway.internal"]);
        let after = until_connected(addr, &other, Some(&identity)).await;
        assert!(signing_keys(after, None).await.is_ok());
        assert_expires(&secured.service, "4102444800").await;
        assert!(secured.connect(None).await.is_err(), "the old certificate is gone");
        let mut client = AuthServiceClient::new(before);
        client.register(register("ana@example.com")).await.expect("the old connection lives");
    }

    async fn broken_files_change_nothing_but_the_log(database: TestDatabase) {
        let pki = Pki::new();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| pki.file(name));
        let files = [("TLS_CERT_FILE", cert.as_str()), ("TLS_KEY_FILE", key.as_str())];
        let process = Process::serve(&database, &files);
        let addr = process.grpc_addr().await;

        let new = pki.servers.sign(&["localhost"]);
        fs::write(&cert, &new.certificate).unwrap();
        process.wait_for("key: is not the key of the certificate").await;
        connect(addr, &pki.servers, None).await.expect("the old files are in use");
        fs::remove_file(&key).unwrap();
        process.wait_for("key: cannot read the file").await;
        connect(addr, &pki.servers, None).await.expect("the old files are in use");

        let other = Authority::new();
        other.sign(&["localhost"]).write(pki.folder.path());
        process.wait_for("new connections use the changed files").await;
        connect(addr, &other, None).await.expect("the new files are in use");
        let log = process.log().concat();
        assert!(!log.contains("PRIVATE") && !log.contains(pki.folder.path().to_str().unwrap()));
    }
}

/// The end of the certificate in use, according to `/metrics`.
async fn assert_expires(service: &Service, seconds: &str) {
    let (_, metrics) = service.probe("/metrics").await;
    let line = format!("auth_tls_certificate_expiration_timestamp_seconds {seconds}\n");
    assert!(metrics.contains(&line), "{metrics}");
}

/// Connects as soon as the server presents a certificate of this authority.
async fn until_connected(addr: SocketAddr, servers: &Authority, identity: Option<&Pem>) -> Channel {
    let connected = async {
        loop {
            if let Ok(channel) = connect(addr, servers, identity).await {
                return channel;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_mins(1), connected)
        .await
        .expect("the server uses the new files")
}
