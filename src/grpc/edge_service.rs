//! `EdgeService`: what gateways need to verify access tokens by themselves.
//!
//! A task of its own sends to each watcher: hyper does not poll the body of an answer while the
//! client reads nothing, and then nobody would look at the limits of the stream.

use std::{convert::Infallible, mem, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::OptionFuture, stream, stream::BoxStream};
use http::Extensions;
use prost_types::Duration as ProtoDuration;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::yield_now,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Request, Response, Status};

use super::{
    Handlers, KEYS_MAX_AGE,
    layer::Deadline,
    server::{LongStream, max_watchers, random_age},
};
use crate::{
    auth::{Error, Issuer, RevokedPage, Watcher},
    model::{Cursor, Revocation, RevokedTokens},
    proto::{
        self, EdgeUpdate, Heartbeat, KeySet, RevokedUser, SnapshotBegin, SnapshotEnd, WatchRequest,
        edge_service_server::EdgeService, edge_update::Update, revocation::Tokens,
    },
    telemetry::audit::Event,
};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A watcher that takes no message for so long is dropped. It comes again with its cursor.
const SLOW: Duration = Duration::from_secs(10);
const OVERLOADED: Error = Error::Overloaded {
    retry_after: Duration::from_secs(1),
};

pub type Updates = BoxStream<'static, Result<EdgeUpdate, Status>>;

/// The limits of the streams.
pub struct Watches {
    free: Arc<Semaphore>,
    /// The mean; each stream has an age of its own.
    longest: Duration,
}

impl Watches {
    pub fn new(longest: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max_watchers())),
            longest,
        }
    }

    fn admit(&self, extensions: &Extensions) -> Result<Limits, Error> {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        Ok(Limits {
            _permit: permit.map_err(|_| OVERLOADED)?,
            stream: LongStream::begin_uncounted(extensions)?,
            deadline: Deadline::of_stream(extensions),
            old_at: Instant::now() + random_age(self.longest),
        })
    }
}

/// When a stream must end, and what it holds until then.
struct Limits {
    stream: LongStream,
    deadline: Option<Instant>,
    old_at: Instant,
    _permit: OwnedSemaphorePermit,
}

#[tonic::async_trait]
impl EdgeService for Handlers {
    type WatchStream = Updates;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Updates>, Status> {
        let audited = self.audited(Event::EdgeWatch, &request);
        let begun = audited.require_keys(&request, self.plaintext_keys);
        let begun = begun.and_then(|()| {
            let cursor = parse(&request.get_ref().cursor)?;
            Ok((cursor, self.watches.admit(request.extensions())?))
        });
        let updates = begun.map(|(cursor, limits)| {
            audited.ok();
            self.begin_watch(cursor, limits)
        });
        audited.end(updates)
    }
}

impl Handlers {
    fn begin_watch(&self, cursor: Option<Cursor>, limits: Limits) -> Updates {
        let (updates, received) = mpsc::channel(1);
        let watching = Watching {
            watcher: self.revocations.watch(),
            keys: self.auth.issuer().into(),
            cursor,
            updates,
        };
        tokio::spawn(watching.run(limits));
        let messages = stream::unfold(received, async |mut received| {
            let messages: Messages = received.recv().await?;
            Some((stream::iter(messages), received))
        });
        messages.flatten().boxed()
    }
}

fn parse(cursor: &str) -> Result<Option<Cursor>, Error> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let known = Cursor::parse(cursor);
    let known =
        known.ok_or_else(|| Error::invalid("cursor", "must be empty, or of an earlier stream"));
    known.map(Some)
}

type Messages = Vec<Result<EdgeUpdate, Status>>;

struct Watching {
    watcher: Watcher,
    keys: KeySet,
    cursor: Option<Cursor>,
    updates: mpsc::Sender<Messages>,
}

/// The client takes no more messages.
enum Lost {
    Gone,
    Slow,
}

impl Watching {
    /// The stream ends with OK when all senders are dropped.
    async fn run(mut self, limits: Limits) {
        let updates = self.updates.clone();
        let late = OptionFuture::from(limits.deadline.map(sleep_until));
        tokio::select! {
            Err(lost) = self.send_all() => if matches!(lost, Lost::Slow) {
                limits.stream.close_connection();
            },
            () = updates.closed() => {}
            () = limits.stream.must_end() => {}
            () = sleep_until(limits.old_at) => {}
            Some(()) = late => {
                let late = vec![Err(Error::DeadlineExceeded.into())];
                // A client that does not read it has a deadline of its own.
                let _ = timeout(SLOW, updates.send(late)).await;
            }
        }
        // The end of the stream is on its way before its connection may be closed.
        drop((self, updates));
    }

    async fn send_all(&mut self) -> Result<Infallible, Lost> {
        let keys = mem::take(&mut self.keys);
        self.send(vec![Update::Keys(keys)]).await?;
        let mut heard = None;
        if !self.watcher.begin(self.cursor).await {
            self.send(vec![Update::SnapshotBegin(SnapshotBegin {})])
                .await?;
            let cursor = self.send_news().await?;
            let end = SnapshotEnd {
                cursor: cursor.to_string(),
            };
            self.send(vec![Update::SnapshotEnd(end)]).await?;
            heard = Some(cursor);
        }
        let mut beat_at = Instant::now();
        loop {
            let cursor = self.send_news().await?;
            if Instant::now() >= beat_at {
                beat_at = Instant::now() + HEARTBEAT;
                // Without a new read, this replica may have missed something.
                if heard != Some(cursor) {
                    let beat = Heartbeat {
                        cursor: cursor.to_string(),
                    };
                    self.send(vec![Update::Heartbeat(beat)]).await?;
                    heard = Some(cursor);
                }
            }
            tokio::select! {
                () = sleep_until(beat_at) => {}
                () = self.watcher.changed() => {}
            }
        }
    }

    /// Sends all that was read, and returns where a later stream can begin.
    async fn send_news(&mut self) -> Result<Cursor, Lost> {
        loop {
            let RevokedPage { revoked, end } = self.watcher.next_page();
            if !revoked.is_empty() {
                let updates = revoked.into_iter().map(|it| Update::Revoked(it.into()));
                self.send(updates.collect()).await?;
            }
            if let Some(cursor) = end {
                return Ok(cursor);
            }
            // A page without news takes no await.
            yield_now().await;
        }
    }

    async fn send(&self, updates: Vec<Update>) -> Result<(), Lost> {
        let messages = updates
            .into_iter()
            .map(|it| Ok(EdgeUpdate { update: Some(it) }));
        match timeout(SLOW, self.updates.send(messages.collect())).await {
            Ok(sent) => sent.map_err(|_| Lost::Gone),
            Err(_) => Err(Lost::Slow),
        }
    }
}

impl From<&Issuer> for KeySet {
    fn from(issuer: &Issuer) -> Self {
        Self {
            verification_keys: issuer.keys.iter().map(Into::into).collect(),
            issuer: issuer.name.clone(),
            audience: issuer.audience.clone(),
            access_token_ttl: ProtoDuration::try_from(issuer.ttl).ok(),
            max_age: Some(KEYS_MAX_AGE),
        }
    }
}

impl From<Revocation> for proto::Revocation {
    fn from(revocation: Revocation) -> Self {
        let tokens = match revocation.tokens {
            RevokedTokens::Session(id) => Tokens::SessionId(id.to_string()),
            RevokedTokens::User(id, issued_before) => Tokens::User(RevokedUser {
                user_id: id.to_string(),
                issued_before: Some(issued_before.into()),
            }),
        };
        Self {
            tokens: Some(tokens),
            until: Some(revocation.until.into()),
        }
    }
}
