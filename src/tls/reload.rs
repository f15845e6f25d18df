//! New certificates without a restart.
//!
//! The files are read every few seconds, whatever changed them: an editor, `cp`, or the
//! symbolic links of a Kubernetes secret. New connections use the new set; those that are
//! open go on. A set that does not fit together changes nothing but the log.

use std::{sync::Arc, time::Duration};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use rustls::ServerConfig;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::server::{Flaw, Identity, ServerFiles};

const INTERVAL: Duration = Duration::from_secs(2);

/// Watches the files of one set.
pub struct Reloader {
    files: ServerFiles,
    /// What was last found, so that each state is told once.
    found: Result<[u8; 32], Flaw>,
    current: watch::Sender<Arc<ServerConfig>>,
    expiration: Gauge,
}

impl Reloader {
    /// Starts from what was read from the files.
    #[must_use]
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

    /// What a new connection is to use.
    #[must_use]
    pub fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Watches until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            self = spawn_blocking(|| self.checked()).await?;
        }
        Ok(())
    }

    fn checked(mut self) -> Self {
        let content = self.files.read();
        let found = content.as_ref().map(super::server::Content::fingerprint);
        let found = found.map_err(Clone::clone);
        if found != self.found {
            self.found = found;
            match content.and_then(|content| content.parse()) {
                Ok(identity) => self.replace(&identity),
                Err(flaw) => {
                    error!("TLS: THE CHANGED FILES ARE NOT USED, the old ones still are: {flaw}");
                }
            }
        }
        self
    }

    fn replace(&self, identity: &Identity) {
        let not_after = identity.certificate.not_after;
        info!(%not_after, "TLS: new connections use the changed files");
        self.expiration.set(not_after.as_secs());
        self.current.send_replace(Arc::clone(&identity.config));
    }
}
