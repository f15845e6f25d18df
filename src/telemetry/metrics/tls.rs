//! Of TLS on the gRPC port.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use crate::model::Timestamp;

/// What is measured of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsMetrics {
    expiration: Gauge,
}

impl TlsMetrics {
    /// New connections are shown a certificate that is valid until then.
    pub fn expires(&self, not_after: Timestamp) {
        self.expiration.set(not_after.as_secs());
    }

    /// Shows the group.
    pub fn register(&self, registry: &mut Registry) {
        let help = "When the certificate in use expires, in seconds since 1970";
        registry.register(
            "auth_tls_certificate_expiration_timestamp_seconds",
            help,
            self.expiration.clone(),
        );
    }
}
