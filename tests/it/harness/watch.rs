//! Streams of `EdgeService`.

use std::time::Duration;

use auth_service::{
    model::Timestamp,
    proto::{
        self, edge_service_client::EdgeServiceClient, edge_update::Update, revocation::Tokens,
    },
};
use tokio::time::timeout;
use tonic::{Status, Streaming, transport::Channel};

use super::{INTERNAL_TOKEN, with_bearer};

/// For a message that must come. It is long: the machine may be slow.
pub const SOON: Duration = Duration::from_secs(30);

/// What a gateway hears.
pub struct Watch {
    updates: Streaming<proto::EdgeUpdate>,
    /// The last one.
    pub cursor: String,
}

/// The tokens that a revocation names: a `sid`, or a `sub` with a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    Session(String),
    User(String, Timestamp),
}

impl Watch {
    pub async fn open(channel: Channel, cursor: &str) -> Result<Self, Status> {
        Self::open_as(channel, INTERNAL_TOKEN, cursor).await
    }

    pub async fn open_as(channel: Channel, token: &str, cursor: &str) -> Result<Self, Status> {
        let request = proto::WatchRequest {
            cursor: cursor.to_owned(),
        };
        let mut client = EdgeServiceClient::new(channel);
        let updates = client.watch(with_bearer(request, token)).await?;
        Ok(Self {
            updates: updates.into_inner(),
            cursor: cursor.to_owned(),
        })
    }

    /// A stream that has received its keys and this snapshot.
    pub async fn begin(channel: Channel) -> (Self, Vec<Revoked>) {
        let mut watch = Self::open(channel, "").await.expect("a caller that may");
        watch.keys().await;
        let snapshot = watch.snapshot().await;
        (watch, snapshot)
    }

    /// The next message. `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Update>, Status> {
        let message = timeout(SOON, self.updates.message()).await;
        let message = message.expect("a message, or the end")?;
        let update = message.map(|it| it.update.expect("every message has one"));
        match &update {
            Some(Update::Heartbeat(beat)) => self.cursor.clone_from(&beat.cursor),
            Some(Update::SnapshotEnd(end)) => self.cursor.clone_from(&end.cursor),
            _ => {}
        }
        Ok(update)
    }

    async fn update(&mut self) -> Update {
        self.next()
            .await
            .expect("no error")
            .expect("the stream goes on")
    }

    pub async fn keys(&mut self) -> proto::KeySet {
        match self.update().await {
            Update::Keys(keys) => keys,
            other => panic!("{} before the keys", name(&other)),
        }
    }

    pub async fn snapshot(&mut self) -> Vec<Revoked> {
        let begin = self.update().await;
        assert_eq!(name(&begin), "snapshot_begin");
        let mut all = Vec::new();
        loop {
            match self.update().await {
                Update::Revoked(it) => all.push(revoked(&it)),
                Update::SnapshotEnd(_) => return all,
                other => panic!("{} in a snapshot", name(&other)),
            }
        }
    }

    /// The next revocation.
    pub async fn revocation(&mut self) -> proto::Revocation {
        loop {
            match self.update().await {
                Update::Revoked(it) => return it,
                Update::Heartbeat(_) => {}
                other => panic!("{} instead of a revocation", name(&other)),
            }
        }
    }

    pub async fn revoked(&mut self) -> Revoked {
        revoked(&self.revocation().await)
    }

    /// The revocations until the second heartbeat: the first one may have been on its way.
    pub async fn until_heartbeat(&mut self) -> Vec<Revoked> {
        let (mut all, mut beats) = (Vec::new(), 0);
        while beats < 2 {
            match self.update().await {
                Update::Revoked(it) => all.push(revoked(&it)),
                Update::Heartbeat(_) => beats += 1,
                other => panic!("{} instead of news", name(&other)),
            }
        }
        all
    }

    /// Whether there is a heartbeat within this time.
    pub async fn beats_within(&mut self, time: Duration) -> bool {
        timeout(time, self.until_heartbeat()).await.is_ok()
    }
}

pub fn name(update: &Update) -> &'static str {
    match update {
        Update::Keys(_) => "keys",
        Update::SnapshotBegin(_) => "snapshot_begin",
        Update::Revoked(_) => "revoked",
        Update::SnapshotEnd(_) => "snapshot_end",
        Update::Heartbeat(_) => "heartbeat",
    }
}

pub fn revoked(revocation: &proto::Revocation) -> Revoked {
    match revocation.tokens.as_ref().expect("tokens") {
        Tokens::SessionId(id) => Revoked::Session(id.clone()),
        Tokens::User(user) => {
            let before = user.issued_before.expect("a time");
            let micros = before.seconds * 1_000_000 + i64::from(before.nanos / 1000);
            Revoked::User(user.user_id.clone(), Timestamp::from_micros(micros))
        }
    }
}
