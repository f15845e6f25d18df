//! Calls to the service.
//!
//! Each has a deadline, says who we are (the internal token) and who our client is
//! (`x-client-address`, which the service believes only because of the token). A call that
//! may be repeated is repeated, until the same deadline, when the service could not be
//! reached or says "later" for a fault of its own; OVERLOADED is passed on, since more calls
//! would not help.

use std::{future::Future, net::IpAddr, time::Duration};

use anyhow::ensure;
use tokio::time::{Instant, sleep, timeout_at};
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
    ///
    /// It is one connection, and so one replica, whatever the name stands for. Behind a
    /// headless Kubernetes Service, use [`Channel::balance_channel`] instead, fed by a task
    /// that looks the name up every few seconds and sends a `Change` for each address that
    /// came or went.
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

/// Makes a call, and repeats it if `again` says so of the error: [`is_temporary`] for what
/// may be repeated, such as Refresh (a lost one returns the same successor again) and
/// Logout; [`is_unreachable`] for Login, which may cost an unused session. Register is not
/// for this: if it was done and the answer lost, the second call says `EMAIL_TAKEN`.
///
/// All attempts and pauses together end at the deadline. A pause that would not is not begun.
pub async fn retrying<T, F>(
    again: fn(&Status) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let end = Instant::now() + DEADLINE;
    let mut backoff = FIRST_PAUSE;
    for attempt in 1.. {
        // To drop a call cancels it, at the service too.
        let status = match timeout_at(end, call()).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => return Err(Status::deadline_exceeded("no answer in time")),
        };
        // Full jitter, or all gateways would come back at the same moment.
        let pause = asked_for(&status).unwrap_or_default() + backoff.mul_f64(random());
        let is_late = pause >= end.saturating_duration_since(Instant::now());
        if attempt == ATTEMPTS || is_late || !again(&status) {
            return Err(status);
        }
        sleep(pause).await;
        backoff *= 3;
    }
    unreachable!("the last attempt returns")
}

/// The service could not be reached, or the connection broke before it answered.
#[must_use]
pub fn is_unreachable(status: &Status) -> bool {
    status.code() == Code::Unavailable
}

/// The same, or the service had a fault of its own and says when to come back. Not for Login:
/// the password would be hashed again.
#[must_use]
pub fn is_temporary(status: &Status) -> bool {
    is_unreachable(status) || status.code() == Code::Internal && asked_for(status).is_some()
}

/// The pause that the service asks for.
fn asked_for(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// From 0 to 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
