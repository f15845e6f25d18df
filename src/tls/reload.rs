//! New certificates without a restart.
//!
//! The files are read every few seconds, so it does not matter how they change: by an editor,
//! by `cp`, or by the symbolic links of a Kubernetes secret. New connections use the new set;
//! open connections continue. If the files do not fit together, the error is logged and the old
//! files stay in use.

use std::{sync::Arc, time::Duration};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use rustls::ServerConfig;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::server::{Content, Flaw, Identity, ServerFiles};

const INTERVAL: Duration = Duration::from_secs(2);

pub struct Reloader {
    files: ServerFiles,
    /// The last result, so that each state is logged once.
    found: Result<[u8; 32], Flaw>,
    current: watch::Sender<Arc<ServerConfig>>,
    expiration: Gauge,
}

impl Reloader {
    pub fn new(files: ServerFiles, identity: &Identity, registry: &mut Registry) -> Self {
        let expiration = Gauge::default();
        expiration.set(identity.certificate.not_after.as_secs());
        registry.register(
            "auth_tls_certificate_expiration_timestamp_seconds",
            "When the certificate in use expires, in seconds since 1970",
            expiration.clone(),
        );
        Self {
            files,
            found: Ok(identity.fingerprint),
            current: watch::Sender::new(Arc::clone(&identity.config)),
            expiration,
        }
    }

    pub fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            self = spawn_blocking(|| self.checked()).await?;
        }
        Ok(())
    }

    fn checked(mut self) -> Self {
        let content = self.files.read();
        let found = content.as_ref().map(Content::fingerprint);
        let found = found.map_err(Clone::clone);
        if found != self.found {
            self.found = found;
            match content.and_then(|content| content.parse()) {
                Ok(identity) => self.replace(&identity),
                Err(flaw) => {
                    error!(
                        "TLS: THE CHANGED FILES ARE NOT USED, the old certificate stays in use: {flaw}"
                    );
                }
            }
        }
        self
    }

    fn replace(&self, identity: &Identity) {
        let not_after = identity.certificate.not_after;
        self.expiration.set(not_after.as_secs());
        self.current.send_replace(Arc::clone(&identity.config));
        info!(%not_after, "TLS: new connections use the changed files");
    }
}
