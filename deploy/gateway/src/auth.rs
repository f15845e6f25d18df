//! Calls to the service.
//!
//! Each call has a deadline and carries the internal token and the client's address
//! (`x-client-address`, which the service believes only because of the token). A retry
//! happens only if the call allows it, within the same deadline, and only if the service was
//! unreachable or failed with a `RetryInfo`. OVERLOADED is passed on, because more calls
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

use crate::proto::{
    account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    edge_service_client::EdgeServiceClient, recovery_service_client::RecoveryServiceClient,
};

/// A bcrypt hash may wait 2 s before it starts; the service itself gives up after 10 s.
const DEADLINE: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Auth {
    endpoint: Endpoint,
    client: AuthServiceClient<Channel>,
    account: AccountServiceClient<Channel>,
    recovery: RecoveryServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl Auth {
    /// Connects at the first call, and again when the connection ends. With an `authority`,
    /// it uses TLS only.
    ///
    /// It holds one connection to one replica, even if the name has several addresses. Behind
    /// a headless Kubernetes Service, use [`Channel::balance_channel`] instead. A task feeds
    /// it: it resolves the name every few seconds and sends a `Change` for each added or
    /// removed address.
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
        let channel = endpoint.connect_lazy();
        Ok(Self {
            endpoint,
            client: AuthServiceClient::new(channel.clone()),
            account: AccountServiceClient::new(channel.clone()),
            recovery: RecoveryServiceClient::new(channel),
            authorization,
        })
    }

    /// A cheap copy of the client; all copies share the connection.
    #[must_use]
    pub fn client(&self) -> AuthServiceClient<Channel> {
        self.client.clone()
    }

    /// Like [`Self::client`], for the calls of a signed-in user: see [`Self::request_of`].
    #[must_use]
    pub fn account(&self) -> AccountServiceClient<Channel> {
        self.account.clone()
    }

    /// Like [`Self::client`], for a person who cannot sign in, or who got a mail.
    #[must_use]
    pub fn recovery(&self) -> RecoveryServiceClient<Channel> {
        self.recovery.clone()
    }

    /// Makes a connection of its own, which ends with the client.
    #[must_use]
    pub fn edge(&self) -> EdgeServiceClient<Channel> {
        EdgeServiceClient::new(self.endpoint.connect_lazy())
    }

    /// The message with its deadline and metadata.
    pub fn request<T>(&self, message: T, client: Option<IpAddr>) -> Request<T> {
        let mut request = self.request_stream(message);
        request.set_timeout(DEADLINE);
        if let Some(Ok(address)) = client.map(|client| client.to_string().parse()) {
            request.metadata_mut().insert("x-client-address", address);
        }
        request
    }

    /// Like [`Self::request`], without a deadline: a stream has no end.
    pub fn request_stream<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let authorization = self.authorization.clone();
        request
            .metadata_mut()
            .insert("authorization", authorization);
        request
    }

    /// Like [`Self::request`], with the user's access token as another `authorization`. No service
    /// issues a token that metadata cannot hold, so such a one is not sent.
    pub fn request_of<T>(&self, user: &str, message: T, client: Option<IpAddr>) -> Request<T> {
        let mut request = self.request(message, client);
        if let Ok(mut bearer) = format!("Bearer {user}").parse::<MetadataValue<_>>() {
            bearer.set_sensitive(true);
            request.metadata_mut().append("authorization", bearer);
        }
        request
    }
}

/// Makes a call, and retries it while `should_retry` accepts the error.
///
/// - [`is_temporary`] is for idempotent calls: Refresh (after a lost reply it returns the same
///   successor) and Logout.
/// - [`is_unreachable`] is for Login: a retry can leave an unused session.
/// - Register must not be retried: if only the reply was lost, the second call fails with
///   `EMAIL_TAKEN`.
///
/// All attempts and pauses share one deadline. A pause that would pass it is not started.
pub async fn retrying<T, F>(
    should_retry: fn(&Status) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let end = Instant::now() + DEADLINE;
    let mut backoff = FIRST_PAUSE;
    for attempt in 1.. {
        // Dropping a call cancels it, at the service too.
        let status = match timeout_at(end, call()).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => return Err(Status::deadline_exceeded("no answer in time")),
        };
        // Full jitter: without it all gateways would retry at the same moment.
        let pause = retry_delay(&status).unwrap_or_default() + backoff.mul_f64(random());
        let is_late = pause >= end.saturating_duration_since(Instant::now());
        if attempt == ATTEMPTS || is_late || !should_retry(&status) {
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

/// Like [`is_unreachable`], or the service failed and says when to retry. Login must not use
/// it: the password would be hashed again.
#[must_use]
pub fn is_temporary(status: &Status) -> bool {
    is_unreachable(status) || status.code() == Code::Internal && retry_delay(status).is_some()
}

/// The pause that the service requests with `RetryInfo`.
pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// A number from 0 to 1.
pub(crate) fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
