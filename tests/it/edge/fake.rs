//! An `EdgeService` whose streams send what the test says.

use std::net::SocketAddr;

use auth_service::{
    model::{SessionId, Timestamp, UserId},
    proto::{
        EdgeUpdate, Heartbeat, Revocation, RevokedUser, SnapshotBegin, SnapshotEnd, WatchRequest,
        edge_service_server::{EdgeService, EdgeServiceServer},
        edge_update::Update,
        revocation,
    },
};
use futures::{StreamExt as _, stream::BoxStream};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Request, Response, Status,
    transport::{Server, ServerTlsConfig},
};

use super::{Tokens, tokens::TTL};
use crate::harness::{SOON, START};

pub struct FakeService {
    pub addr: SocketAddr,
    calls: Mutex<mpsc::UnboundedReceiver<Call>>,
    _server: AbortOnDropHandle<()>,
}

/// A call of `Watch`. Its stream ends with OK when it is dropped.
pub struct Call {
    pub cursor: String,
    /// All values of the header.
    pub authorization: Vec<String>,
    updates: mpsc::Sender<Result<EdgeUpdate, Status>>,
}

struct Handler(mpsc::UnboundedSender<Call>);

#[tonic::async_trait]
impl EdgeService for Handler {
    type WatchStream = BoxStream<'static, Result<EdgeUpdate, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let values = request.metadata().get_all("authorization").iter();
        let authorization = values.map(|it| it.to_str().unwrap().to_owned()).collect();
        let (updates, sent) = mpsc::channel(64);
        let call = Call {
            cursor: request.into_inner().cursor,
            authorization,
            updates,
        };
        self.0
            .send(call)
            .map_err(|_| Status::unavailable("the test ended"))?;
        let sent = futures::stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
        Ok(Response::new(sent.boxed()))
    }
}

impl FakeService {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    pub async fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (calls, received) = mpsc::unbounded_channel();
        let incoming = futures::stream::unfold(listener, async |listener| {
            let stream = listener.accept().await.map(|(stream, _)| stream);
            Some((stream, listener))
        });
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let server = server
            .add_service(EdgeServiceServer::new(Handler(calls)))
            .serve_with_incoming(incoming);
        let server = tokio::spawn(async { server.await.unwrap() });
        Self {
            addr,
            calls: Mutex::new(received),
            _server: AbortOnDropHandle::new(server),
        }
    }

    /// The next call that comes.
    pub async fn call(&self) -> Call {
        let mut calls = self.calls.lock().await;
        timeout(SOON, calls.recv())
            .await
            .expect("a call")
            .expect("the server runs")
    }

    /// The next call, after the keys and a snapshot of nothing.
    pub async fn follow(&self, tokens: &Tokens) -> Call {
        let call = self.call().await;
        call.send(Update::Keys(tokens.keys())).await;
        call.send(begin()).await;
        call.send(end("cursor 1")).await;
        call
    }

    /// Whether no call comes for this time.
    pub async fn is_quiet(&self, time: std::time::Duration) -> bool {
        timeout(time, self.calls.lock().await.recv()).await.is_err()
    }
}

impl Call {
    pub async fn send(&self, update: Update) {
        let update = Some(update);
        self.updates
            .send(Ok(EdgeUpdate { update }))
            .await
            .expect("the edge listens");
    }

    /// A message of a kind that only a newer service knows.
    pub async fn send_unknown(&self) {
        let unknown = EdgeUpdate { update: None };
        self.updates
            .send(Ok(unknown))
            .await
            .expect("the edge listens");
    }

    pub async fn fail(self, status: Status) {
        self.updates
            .send(Err(status))
            .await
            .expect("the edge listens");
    }

    /// Waits until the edge gives the stream up.
    pub async fn given_up(&self) {
        timeout(SOON, self.updates.closed())
            .await
            .expect("the edge closes the stream");
    }
}

pub fn begin() -> Update {
    Update::SnapshotBegin(SnapshotBegin {})
}

pub fn end(cursor: &str) -> Update {
    let cursor = cursor.to_owned();
    Update::SnapshotEnd(SnapshotEnd { cursor })
}

pub fn heartbeat(cursor: &str) -> Update {
    let cursor = cursor.to_owned();
    Update::Heartbeat(Heartbeat { cursor })
}

/// A revocation of a session until all its tokens have expired.
pub fn session(id: SessionId) -> Update {
    revoked(revocation::Tokens::SessionId(id.to_string()))
}

pub fn user(id: UserId, issued_before: Timestamp) -> Update {
    revoked(revocation::Tokens::User(RevokedUser {
        user_id: id.to_string(),
        issued_before: Some(timestamp(issued_before)),
    }))
}

fn revoked(tokens: revocation::Tokens) -> Update {
    Update::Revoked(Revocation {
        tokens: Some(tokens),
        until: Some(timestamp(START + TTL)),
    })
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    std::time::SystemTime::from(time).into()
}

pub fn keys(tokens: &Tokens) -> Update {
    Update::Keys(tokens.keys())
}

/// A revocation of another session.
pub fn numbered_session(number: u32) -> Update {
    let id = u128::from(number).to_be_bytes();
    session(SessionId::from_bytes(id))
}
