//! `grpc.health.v1`: one status for the whole process and for each service.
//!
//! A check of an unknown name is `NOT_FOUND`. A watch of an unknown name receives
//! `SERVICE_UNKNOWN` and stays open, as the protocol asks, so that a client which waits for a
//! service does not call again and again. The names are fixed: none becomes known later.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use super::{
    ACCOUNT_SERVICE_NAME, ADMIN_SERVICE_NAME, EDGE_SERVICE_NAME, MAIL_SERVICE_NAME,
    RECOVERY_SERVICE_NAME, SERVICE_NAME,
};

/// The names that health checks use: the whole process, and each service.
const NAMES: [&str; 7] = [
    "",
    SERVICE_NAME,
    ACCOUNT_SERVICE_NAME,
    RECOVERY_SERVICE_NAME,
    MAIL_SERVICE_NAME,
    ADMIN_SERVICE_NAME,
    EDGE_SERVICE_NAME,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Serving,
    NotServing,
    /// Not serving, and all watch streams end.
    Closed,
}

/// Sets the status that clients receive, at first `NOT_SERVING`. Clones set the same one.
#[derive(Clone)]
pub struct HealthReporter(watch::Sender<State>);

impl Default for HealthReporter {
    fn default() -> Self {
        Self(watch::Sender::new(State::NotServing))
    }
}

impl HealthReporter {
    pub fn report(&self, is_serving: bool) {
        let new = if is_serving {
            State::Serving
        } else {
            State::NotServing
        };
        self.0.send_if_modified(|state| {
            let changes = *state != State::Closed && *state != new;
            if changes {
                *state = new;
            }
            changes
        });
    }

    /// Ends the streams of clients that watch the health. The clients have received NOT_SERVING,
    /// but the streams do not end by themselves and would delay the drain.
    pub fn close_watch_streams(&self) {
        self.0.send_replace(State::Closed);
    }

    /// The statuses that a watch of `name` receives.
    fn watch(&self, name: &str) -> impl Stream<Item = ServingStatus> + Send + use<> {
        let is_known = NAMES.contains(&name);
        let sent = None::<ServingStatus>;
        stream::unfold(
            (self.0.subscribe(), sent),
            move |(mut state, sent)| async move {
                loop {
                    let status = status(*state.borrow_and_update(), is_known)?;
                    if sent != Some(status) {
                        return Some((status, (state, Some(status))));
                    }
                    state.changed().await.ok()?;
                }
            },
        )
    }
}

/// `None` ends the stream.
const fn status(state: State, is_known: bool) -> Option<ServingStatus> {
    match state {
        State::Closed => None,
        _ if !is_known => Some(ServingStatus::ServiceUnknown),
        State::Serving => Some(ServingStatus::Serving),
        State::NotServing => Some(ServingStatus::NotServing),
    }
}

#[tonic::async_trait]
impl Health for HealthReporter {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !NAMES.contains(&&*request.get_ref().service) {
            return Err(Status::not_found("no such service"));
        }
        let status = status(*self.0.borrow(), true).unwrap_or(ServingStatus::NotServing);
        Ok(Response::new(response(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let statuses = self.watch(&request.get_ref().service);
        let responses = statuses.map(|status| Ok(response(status)));
        Ok(Response::new(Box::pin(responses)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn next(
        watch: &mut (impl Stream<Item = ServingStatus> + Unpin),
    ) -> Poll<Option<ServingStatus>> {
        watch.poll_next_unpin(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_watch_receives_each_change_once_and_ends_when_the_streams_are_closed() {
        let health = HealthReporter::default();
        let mut known = Box::pin(health.watch(SERVICE_NAME));
        let mut unknown = Box::pin(health.watch("no.such.Service"));
        let is = |status| Poll::Ready(Some(status));
        assert_eq!(next(&mut known), is(ServingStatus::NotServing));
        health.report(false);
        assert_eq!(next(&mut known), Poll::Pending);
        health.report(true);
        assert_eq!(next(&mut known), is(ServingStatus::Serving));
        assert_eq!(next(&mut unknown), is(ServingStatus::ServiceUnknown));
        health.report(false);
        assert_eq!(next(&mut unknown), Poll::Pending);
        health.close_watch_streams();
        health.report(true);
        assert_eq!(next(&mut unknown), Poll::Ready(None));
        assert_eq!(next(&mut known), Poll::Ready(None));
    }
}
