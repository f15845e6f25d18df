//! Streams of `ImportUsers`.

use auth_service::proto;
use futures::stream::poll_fn;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{Admin, framed};

/// The token of a caller with the scope `import`.
pub const IMPORTER: &str = "a-token-of-an-importer-with-40-characters";

/// A row with an address and nothing else.
pub fn row(email: &str) -> proto::ImportUser {
    proto::ImportUser {
        email: email.to_owned(),
        ..Default::default()
    }
}

pub const IMPORT_USERS: &str = "/realchat.auth.v1.AdminService/ImportUsers";

/// Rows as the body of a request.
pub fn body_of(rows: &[proto::ImportUser]) -> Vec<u8> {
    rows.iter()
        .flat_map(|row| framed(&row.encode_to_vec()))
        .collect()
}

/// Different addresses, in no order.
pub fn rows(count: usize) -> Vec<proto::ImportUser> {
    let rows = (0..count).map(|n| row(&format!("{}-user-{n}@example.com", n * 7919 % 101)));
    rows.collect()
}

/// Sends all rows at once. Returns all results, and the error at the end if there is one.
pub async fn import(
    mut admin: Admin,
    rows: Vec<proto::ImportUser>,
) -> (Vec<proto::ImportResult>, Result<(), Status>) {
    let answer = admin.import_users(futures::stream::iter(rows)).await;
    match answer {
        Ok(answer) => all(&mut answer.into_inner()).await,
        Err(status) => (Vec::new(), Err(status)),
    }
}

async fn all(
    results: &mut Streaming<proto::ImportResult>,
) -> (Vec<proto::ImportResult>, Result<(), Status>) {
    let mut all = Vec::new();
    loop {
        match results.message().await {
            Ok(Some(result)) => all.push(result),
            Ok(None) => return (all, Ok(())),
            Err(status) => return (all, Err(status)),
        }
    }
}

/// What became of a row, and why.
pub fn outcome(result: &proto::ImportResult) -> String {
    let status = result.status().as_str_name();
    let status = status.strip_prefix("IMPORT_STATUS_").expect("a status");
    format!("{status} {}", result.reason).trim_end().to_owned()
}

pub fn outcomes(results: &[proto::ImportResult]) -> Vec<String> {
    results.iter().map(outcome).collect()
}

/// A stream that stays open between its rows.
pub struct ImportStream {
    rows: mpsc::UnboundedSender<proto::ImportUser>,
    pub results: Streaming<proto::ImportResult>,
}

impl ImportStream {
    pub async fn open(mut admin: Admin) -> Result<Self, Status> {
        let (rows, stream) = rows_of_a_stream();
        let results = admin.import_users(stream).await?.into_inner();
        Ok(Self { rows, results })
    }

    pub fn send(&self, row: proto::ImportUser) {
        // The server may have ended the stream.
        self.rows.send(row).ok();
    }

    /// Sends a row and waits for its result.
    pub async fn import(&mut self, row: proto::ImportUser) -> Result<proto::ImportResult, Status> {
        self.send(row);
        let result = self.results.message().await?;
        Ok(result.expect("a result before the end"))
    }

    /// Ends the rows. Returns the results that were not read yet, and the error at the end.
    pub async fn end(mut self) -> (Vec<proto::ImportResult>, Result<(), Status>) {
        drop(self.rows);
        all(&mut self.results).await
    }
}

type Sender = mpsc::UnboundedSender<proto::ImportUser>;

pub fn rows_of_a_stream() -> (
    Sender,
    impl futures::Stream<Item = proto::ImportUser> + Send,
) {
    let (rows, mut received) = mpsc::unbounded_channel();
    (rows, poll_fn(move |context| received.poll_recv(context)))
}
