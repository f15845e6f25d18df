//! Follows `EdgeService.Watch`, at one replica at a time.
//!
//! The cursor of the last heartbeat is kept, so the next stream, of any replica, goes on where the
//! last one ended. When a stream is lost, the next URL is tried at once, then again and again with
//! a back-off. A stream that ends in order is opened again at the same URL: its connection got old
//! or its replica stops, and a load balancer knows another one.

mod connect;
mod fault;
mod freshness;
mod retry;
mod updates;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming, transport::Channel};
use tracing::{error, info, warn};

pub use self::freshness::run as watch_freshness;
use self::{fault::Fault, updates::Updates};
use super::{Knowledge, WatchSettings};
use crate::{
    model::Clock,
    proto::{EdgeUpdate, WatchRequest, edge_service_client::EdgeServiceClient},
    telemetry::{Causes, LIMITED},
};

#[derive(Clone, Copy, Debug)]
pub struct WatchLimits {
    /// For TCP and TLS. Less than 3 s, in which the next URL must be tried.
    pub connect: Duration,
    /// How long a stream may send nothing. A heartbeat comes each second.
    pub silence: Duration,
    /// The mean wait after the service refused this caller, which only an operator can change.
    pub refused: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            silence: Duration::from_secs(10),
            refused: Duration::from_secs(10),
        }
    }
}

pub struct Watcher {
    settings: WatchSettings,
    limits: WatchLimits,
    updates: Updates,
    /// Of the URL that is followed.
    index: usize,
    /// Streams in a row that were lost before they said that all revocations are known.
    failures: u32,
    is_refused: bool,
}

impl Watcher {
    pub fn new(
        settings: WatchSettings,
        limits: WatchLimits,
        knowledge: Arc<Knowledge>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings,
            limits,
            updates: Updates::new(knowledge, clock),
            index: 0,
            failures: 0,
            is_refused: false,
        }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.next_stream()).await.is_some() {}
    }

    /// Follows one stream to its end, and waits as long as necessary before the next one.
    async fn next_stream(&mut self) {
        let began = Instant::now();
        let ended = self.follow().await;
        if self.updates.is_complete {
            self.failures = 0;
            self.is_refused = false;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        let wait = match ended {
            Ok(()) => retry::delay(self.failures),
            Err(fault) => self.after(&fault),
        };
        let soonest = began + retry::INTERVAL;
        sleep(wait.max(soonest.duration_since(Instant::now()))).await;
    }

    /// Logs the fault, and chooses where and how soon to try again.
    fn after(&mut self, fault: &Fault) -> Duration {
        let url = &self.settings.urls[self.index];
        if fault.is_bad_cursor() && self.updates.cursor.take().is_some() {
            warn!(name: LIMITED, url, "the service does not know the cursor: asking for all revocations");
            return Duration::ZERO;
        }
        let fault_text = Causes(fault);
        if !fault.is_refusal() {
            let urls = self.settings.urls.len();
            if is_logged(self.failures as usize / urls) {
                let failures = self.failures;
                warn!(name: LIMITED, url, failures, fault = %fault_text, "no updates from this URL; trying again");
            }
            self.index = (self.index + 1) % urls;
            return retry::delay(self.failures);
        }
        if !self.is_refused {
            error!(
                url,
                fault = %fault_text,
                "THE SERVICE REFUSES THIS EDGE: set AUTH_TOKEN to an internal token of the service \
                 with the scope `keys`, or AUTH_CLIENT_CERT_FILE; trying again slowly"
            );
        }
        self.is_refused = true;
        self.index = (self.index + 1) % self.settings.urls.len();
        // During a change of its configuration, another replica may know this edge.
        if self.index > 0 {
            return retry::delay(self.failures);
        }
        retry::spread(self.limits.refused)
    }

    async fn follow(&mut self) -> Result<(), Fault> {
        self.updates.begin();
        let mut stream = self.open().await?;
        let url = &self.settings.urls[self.index];
        let mut is_logged = false;
        while let Some(update) = next(&mut stream, self.limits.silence).await? {
            self.updates.apply(update)?;
            if self.updates.is_complete && !is_logged {
                info!(name: LIMITED, url, "following the revocations of this URL");
                is_logged = true;
            }
        }
        Ok(())
    }

    async fn open(&self) -> Result<Streaming<EdgeUpdate>, Fault> {
        let channel = self.connect().await?;
        let mut request = Request::new(WatchRequest {
            cursor: self.updates.cursor.clone().unwrap_or_default(),
        });
        if let Some(token) = &self.settings.token {
            let authorization = connect::authorization(token)?;
            request
                .metadata_mut()
                .insert("authorization", authorization);
        }
        let mut client = EdgeServiceClient::new(channel);
        let opened = timeout(self.limits.silence, client.watch(request)).await;
        let response = opened.map_err(|_| Fault::Silent(self.limits.silence))?;
        Ok(response?.into_inner())
    }

    async fn connect(&self) -> Result<Channel, Fault> {
        let limit = self.limits.connect;
        let endpoint = connect::endpoint(&self.settings, &self.settings.urls[self.index], limit)?;
        // `connect_timeout` does not include the look-up of the name.
        let connected = timeout(limit, endpoint.connect()).await;
        Ok(connected.map_err(|_| Fault::NoConnection(limit))??)
    }
}

/// The rounds through all URLs that are logged: a service that is down for an hour must not fill
/// the log.
const fn is_logged(earlier_rounds: usize) -> bool {
    (earlier_rounds + 1).is_power_of_two()
}

async fn next(
    stream: &mut Streaming<EdgeUpdate>,
    silence: Duration,
) -> Result<Option<EdgeUpdate>, Fault> {
    let message = timeout(silence, stream.message()).await;
    Ok(message.map_err(|_| Fault::Silent(silence))??)
}

#[cfg(test)]
mod tests {
    use super::is_logged;

    #[test]
    fn the_rounds_that_are_logged_become_rarer() {
        let logged: Vec<_> = (0..20).filter(|&round| is_logged(round)).collect();
        assert_eq!(logged, [0, 1, 3, 7, 15]);
    }
}
