//! As many gateways as one replica has to serve.

use std::time::Duration;

use auth_service::proto;
use futures::future::join_all;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::timeout;

use crate::harness::{
    Backend, GATEWAY, Process, Revoked, TestDatabase, Watch, connect, logout, register,
};

const WATCHERS: usize = 1000;
/// Connections that are opened at the same time.
const AT_ONCE: usize = 50;

/// Each with a connection of its own, which is more than the connection limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_hear_a_logout_and_keep_nobody_out() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("the system grants its maximum");
    let database = TestDatabase::create(Backend::Sqlite)
        .await
        .expect("it needs no server");
    let process = Process::serve(&database, &GATEWAY);
    let addr = process.grpc_addr().await;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS / AT_ONCE {
        let begin = async || Watch::begin(connect(addr).await).await.0;
        watchers.extend(join_all((0..AT_ONCE).map(|_| begin())).await);
    }
    assert_eq!(watchers.len(), WATCHERS);

    let mut client = process.client().await;
    let request = proto::RegisterRequest {
        start_session: true,
        ..register("ana@example.com")
    };
    let ana = client
        .register(request)
        .await
        .expect("there is room for others")
        .into_inner();
    let token = ana.tokens.expect("a session").refresh_token;
    client.logout(logout(&token)).await.expect("it is genuine");
    let session = Revoked::Session(ana.session_id);
    let heard = join_all(watchers.iter_mut().map(Watch::revoked));
    let heard = timeout(Duration::from_mins(1), heard)
        .await
        .expect("all hear of it");
    assert!(heard.iter().all(|it| *it == session));
    let memory = process.resident();
    assert!(memory < 128 << 20, "{memory} bytes");
}
