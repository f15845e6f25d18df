//! TLS between the attacks and the service.

use std::{net::SocketAddr, sync::Arc};

use auth_service::tls;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use super::target::Target;
use crate::harness::Authority;

pub struct Encrypted {
    folder: TempDir,
    authority: Authority,
    connector: TlsConnector,
}

impl Encrypted {
    pub fn new() -> Self {
        let (folder, authority) = (TempDir::new().expect("a folder"), Authority::new());
        authority.sign(&["localhost"]).write(folder.path());
        let roots = tls::authorities(authority.pem().as_bytes()).expect("an authority");
        let mut config = tls::client(Arc::new(roots));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            folder,
            authority,
            connector: Arc::new(config).into(),
        }
    }

    pub async fn target(&self) -> Target {
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| self.folder.path().join(name));
        let [cert, key] = [&cert, &key].map(|path| path.to_str().expect("UTF-8"));
        let tls = [("TLS_CERT_FILE", cert), ("TLS_KEY_FILE", key)];
        Target::with(&[&tls[..], &[("LOG", "info")]].concat()).await
    }

    pub async fn channel(&self, addr: SocketAddr) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://{addr}")).expect("an address");
        let endpoint = endpoint.tls_config(tls).expect("TLS");
        endpoint.connect().await.expect("the server accepts")
    }

    pub async fn secure(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").expect("a name");
        self.connector.connect(name, stream).await
    }
}
