//! Calls to the service.
//!
//! Each has a deadline, says who we are (the internal token) and who our client is
//! (`x-client-address`, which the service believes only because of the token). A call that
//! may be repeated is repeated when the service could not be reached or says "later" for a
//! fault of its own; OVERLOADED is passed on, since more calls would not help.

use std::{future::Future, net::IpAddr, time::Duration};

use anyhow::ensure;
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::proto::auth_service_client::AuthServiceClient;

/// A bcrypt hash may wait 2 s for its turn; the service itself gives up after 10 s.
const DEADLINE: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Auth {
    client: AuthServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl Auth {
    /// Connects when it is first used, and again whenever the connection ends. With an
    /// `authority`, by TLS only.
    pub fn new(url: &str, token: &str, authority: Option<&[u8]>) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true);
        if let Some(pem) = authority {
            let is_https = endpoint.uri().scheme_str() == Some("https");
            ensure!(is_https, "AUTH_CA_FILE is set, but AUTH_URL is not https");
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls)?;
        }
        let mut authorization: MetadataValue<_> = format!("Bearer {token}").parse()?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: AuthServiceClient::new(endpoint.connect_lazy()),
            authorization,
        })
    }

    /// A client; cheap, all share the connection.
    #[must_use]
    pub fn client(&self) -> AuthServiceClient<Channel> {
        self.client.clone()
    }

    /// A message with all that goes along.
    pub fn request<T>(&self, message: T, client: Option<IpAddr>) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(DEADLINE);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        if let Some(Ok(address)) = client.map(|client| client.to_string().parse()) {
            metadata.insert("x-client-address", address);
        }
        request
    }
}

/// Makes a call that may be repeated. Refresh and Logout may: a lost Refresh returns the
/// same successor again. Login may, at the price of an unused session. Register may not: if
/// it was done and the answer lost, the second call says `EMAIL_TAKEN`.
pub async fn retrying<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if attempt < ATTEMPTS && is_temporary(&status) => {
                // Full jitter, or all gateways would come back at the same moment.
                tokio::time::sleep(pause.mul_f64(random())).await;
                pause *= 3;
            }
            Err(status) => return Err(status),
        }
    }
    unreachable!("the last attempt returns")
}

fn is_temporary(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Internal => status.get_details_retry_info().is_some(),
        _ => false,
    }
}

/// From 0 to 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
