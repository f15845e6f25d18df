//! More logins than the machine can hash.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tokio_postgres::NoTls;
use tonic::Code;

use crate::harness::{
    Backend, BareConnection, PASSWORD, Service, TestDatabase, both, change_password_from, login,
    reason, refused, register,
};

/// Callers beyond those that fill the queue.
const MORE: usize = 16;

/// The login of a caller, with the number of its attempt.
type Request = dyn Fn(usize, usize) -> proto::LoginRequest + Send + Sync;

/// Logins of so many callers that some are refused, until this is dropped. All come again, so
/// the queue stays full.
async fn flood(addr: SocketAddr, request: &Arc<Request>) -> JoinSet<()> {
    let (mut flood, is_full) = (JoinSet::new(), Arc::new(Notify::new()));
    let mut more = 0..MORE;
    for n in 0.. {
        let client = BareConnection::open(addr).await.client();
        let request = Arc::clone(request);
        let requests = (0..).map(move |attempt| request(n, attempt));
        flood.spawn(log_in_again_and_again(
            requests,
            client,
            Arc::clone(&is_full),
        ));
        tokio::select! {
            () = is_full.notified() => if more.next().is_none() { break },
            () = sleep(Duration::from_millis(5)) => {}
        }
    }
    flood
}

async fn log_in_again_and_again(
    requests: impl Iterator<Item = proto::LoginRequest>,
    mut client: AuthServiceClient<BareConnection>,
    is_full: Arc<Notify>,
) {
    for request in requests {
        let answer = client.login(request).await;
        if answer.is_err_and(|status| reason(&status).1 == "OVERLOADED") {
            is_full.notify_one();
            // A faster loop would take the core from the hashing thread.
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Logins of invented users, each of another one.
fn invented() -> Arc<Request> {
    Arc::new(|n, attempt| login(&format!("nobody-{n}-{attempt}@example.com")))
}

/// Logins of an account with the right password, on its known devices in turn.
fn right_logins(email: &'static str, device_tokens: Vec<String>) -> Arc<Request> {
    Arc::new(move |n, _| proto::LoginRequest {
        device_token: device_tokens[n % device_tokens.len()].clone(),
        ..login(email)
    })
}

/// Logs in on a new device and returns its token.
async fn known_device(service: &Service, email: &str) -> String {
    let answer = service.client().login(login(email)).await;
    answer
        .expect("the password is right")
        .into_inner()
        .device_token
}

/// Logs in three times on a known device, which is never refused.
async fn log_in(service: &Service, email: &str, mut device_token: String) {
    for _ in 0..3 {
        let request = proto::LoginRequest {
            device_token,
            ..login(email)
        };
        let answer = service
            .client()
            .login(request)
            .await
            .expect("known devices go first");
        device_token = answer.into_inner().device_token;
    }
}

/// The wait is forty times as long as a hash with all lanes in use, so that no busy machine is
/// too slow for a caller that goes first.
const OPTIONS: [&str; 8] = [
    "--password-threads",
    "1",
    "--bcrypt-cost",
    "12",
    "--password-max-wait",
    "20s",
    "--request-timeout",
    "60s",
];

/// Look-ups of accounts that wait for a lock.
const LOCKED_OUT: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
     AND wait_event_type = 'Lock' AND query LIKE '%\"email\" = %'";

/// A login with a token that is not genuine costs no hash then, and only a look-up shows that.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_for_a_full_queue_leave_connections_to_other_calls_on_postgres() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let service = Service::start(database, &[]).await;
    let ana = service.sign_up("ana@example.com").await;
    service.sign_up("ben@example.com").await;
    let of_ben = known_device(&service, "ben@example.com").await;
    let (_, database) = service.stop().await;
    // Each hash takes seconds, and none may wait.
    let slow = [
        "--password-threads",
        "1",
        "--bcrypt-cost",
        "16",
        "--password-max-wait",
        "1ms",
        "--request-timeout",
        "60s",
    ];
    let service = Service::start(database, &slow).await;
    let _flood = flood(service.addr, &invented()).await;

    let url = service.database.direct_url();
    let (holder, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; LOCK TABLE users")
        .await
        .unwrap();
    let request = right_logins("ana@example.com", vec![of_ben]);
    let mut logins = JoinSet::new();
    for n in 0..40 {
        let (mut client, request) = (service.client(), request(n, 0));
        logins.spawn(async move { client.login(request).await });
    }
    service.database.wait_for(LOCKED_OUT, 4).await;
    let mut token = ana.tokens.refresh_token;
    for _ in 0..20 {
        token = service
            .refresh(&token)
            .await
            .expect("a connection is free")
            .refresh_token;
    }
}

both! {
    async fn a_flood_of_invented_logins_never_keeps_a_known_device_out(database: TestDatabase) {
        let service = Service::start(database, &OPTIONS).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let device_token = known_device(&service, "ana@example.com").await;
        let _flood = flood(service.addr, &invented()).await;
        log_in(&service, "ana@example.com", device_token).await;
    }

    async fn right_logins_of_one_account_never_keep_a_known_device_of_another_out(database: TestDatabase) {
        let service = Service::start(database, &OPTIONS).await;
        for email in ["ana@example.com", "mallory@example.com"] {
            service.client().register(register(email)).await.unwrap();
        }
        let device_token = known_device(&service, "ana@example.com").await;
        let of_mallory = (0..10).map(|_| known_device(&service, "mallory@example.com"));
        let of_mallory = join_all(of_mallory).await;
        let _flood = flood(service.addr, &right_logins("mallory@example.com", of_mallory)).await;
        log_in(&service, "ana@example.com", device_token).await;
    }

    async fn a_foreign_device_token_does_not_go_first(database: TestDatabase) {
        let service = Service::start(database, &OPTIONS).await;
        for email in ["ana@example.com", "ben@example.com"] {
            service.client().register(register(email)).await.unwrap();
        }
        let of_ben = known_device(&service, "ben@example.com").await;
        let _flood = flood(service.addr, &invented()).await;
        // One may find room, and waits then for longer than all known ones.
        let request = right_logins("ana@example.com", vec![of_ben]);
        let mut logins: FuturesUnordered<_> = (0..20).map(|n| {
            let mut client = service.client();
            let request = request(n, 0);
            async move { client.login(request).await }
        }).collect();
        let status = refused(logins.next().await.expect("there are twenty"));
        assert_eq!(reason(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    }

    async fn a_flood_of_invented_logins_never_keeps_a_signed_in_user_out(database: TestDatabase) {
        let service = Service::start(database, &OPTIONS).await;
        let ana = service.sign_up("ana@example.com").await;
        let _flood = flood(service.addr, &invented()).await;
        let passwords = [PASSWORD, "a second long passphrase", "a third long passphrase"];
        for change in passwords.windows(2) {
            let change = change_password_from(change[0], change[1]);
            service.account(&ana).change_password(change).await.expect("she goes first");
        }
    }
}
