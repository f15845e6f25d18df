//! More logins than the machine can hash.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use futures::future::join_all;
use tokio::{task::JoinSet, time::sleep};
use tokio_postgres::NoTls;
use tonic::{Code, Status};

use crate::harness::{
    Backend, BareConnection, PASSWORD, Service, TestDatabase, both, change_password_from,
    eventually, login, reason, register,
};

/// Refusals that show a full queue. A refused caller pauses, so most are of different callers.
const REFUSALS: usize = 16;

/// The login of a caller, with the number of its attempt.
type Request = dyn Fn(usize, usize) -> proto::LoginRequest + Send + Sync;

/// Logins of so many callers that some are refused, until this is dropped. All come again, so
/// the queue stays full. The throttle of a [`Service`] refuses none of them.
async fn flood(addr: SocketAddr, request: &Arc<Request>) -> JoinSet<()> {
    let (mut flood, refusals) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let mut callers = 0..;
    eventually(async || {
        let n = callers.next().expect("it is endless");
        let client = BareConnection::open(addr).await.client();
        let request = Arc::clone(request);
        let requests = (0..).map(move |attempt| request(n, attempt));
        flood.spawn(log_in_again_and_again(
            requests,
            client,
            Arc::clone(&refusals),
        ));
        refusals.load(Relaxed) >= REFUSALS
    })
    .await;
    flood
}

async fn log_in_again_and_again(
    requests: impl Iterator<Item = proto::LoginRequest>,
    mut client: AuthServiceClient<BareConnection>,
    refusals: Arc<AtomicUsize>,
) {
    for request in requests {
        if let Err(status) = client.login(request).await {
            if is_overloaded(&status) {
                refusals.fetch_add(1, Relaxed);
            }
            // A faster loop would take the core from the hashing thread.
            sleep(Duration::from_secs(1)).await;
        }
    }
}

fn is_overloaded(status: &Status) -> bool {
    reason(status) == (Code::ResourceExhausted, "OVERLOADED".to_owned())
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

/// The wait is about 25 times as long as a hash with all lanes in use: a busy machine is not too
/// slow for a caller that goes first, and some hundred callers fill the queue.
const OPTIONS: [&str; 8] = [
    "--password-threads",
    "1",
    "--bcrypt-cost",
    "11",
    "--password-max-wait",
    "6s",
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
    service.log_out(&ana.tokens.refresh_token).await.unwrap();
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
    for _ in 0..20 {
        // It reads the session alone, which has ended.
        let answer = service.log_out(&ana.tokens.refresh_token).await;
        answer.expect("a connection is free");
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
        // Those that are admitted wait for longer than all known ones, and nothing waits for them.
        let _foreign = flood(service.addr, &right_logins("ana@example.com", vec![of_ben])).await;
        let (_, metrics) = service.probe("/metrics").await;
        for outcome in ["done", "refused", "cancelled"] {
            let labels = format!(r#"outcome="{outcome}",priority="known_device""#);
            let hashes = format!("auth_password_hashes_total{{{labels}}} 0\n");
            assert!(metrics.contains(&hashes), "{metrics}");
        }
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
