//! As many gateways as one replica has to serve.

use std::time::Duration;

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use futures::future::join_all;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::timeout;

use super::encrypted::Encrypted;
use crate::harness::{Revoked, Watch, logout, refresh, register};

const WATCHERS: usize = 1000;
/// Connections that are opened at the same time.
const AT_ONCE: usize = 50;
/// Calls of another gateway at the same time, on one connection.
const CALLS: usize = 16;

/// Each with a connection of its own, which is more than the connection limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_hear_a_logout_and_keep_nobody_out() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("the system grants its maximum");
    let encrypted = Encrypted::new();
    let target = encrypted.target().await;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS / AT_ONCE {
        let begin = async || Watch::begin(encrypted.channel(target.addr).await).await.0;
        watchers.extend(join_all((0..AT_ONCE).map(|_| begin())).await);
    }
    assert_eq!(watchers.len(), WATCHERS);

    let client = AuthServiceClient::new(encrypted.channel(target.addr).await);
    let request = proto::RegisterRequest {
        start_session: true,
        ..register("mia@example.com")
    };
    let registered = client.clone().register(request).await;
    let mia = registered.expect("there is room for others").into_inner();
    let token = mia.tokens.expect("a session").refresh_token;
    let call = async || client.clone().refresh(refresh(&token)).await;
    let refreshed = timeout(Duration::from_mins(1), join_all((0..CALLS).map(|_| call())));
    let refreshed = refreshed.await.expect("no call waits for memory");
    assert!(
        refreshed.iter().all(Result::is_ok),
        "all are retries but one"
    );
    client
        .clone()
        .logout(logout(&token))
        .await
        .expect("it is genuine");
    let session = Revoked::Session(mia.session_id);
    let heard = join_all(watchers.iter_mut().map(Watch::revoked));
    let heard = timeout(Duration::from_mins(1), heard)
        .await
        .expect("all receive it");
    assert!(heard.iter().all(|it| *it == session));
}
