//! More logins than the machine can hash.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tonic::Code;

use crate::harness::{
    BareConnection, PASSWORD, Service, TestDatabase, both, change_password_from, login, reason,
    refused, register,
};

/// Invented users beyond those that fill the queue.
const MORE: usize = 16;

/// Logins of invented users until this is dropped, so many that some are refused. These come
/// again, so the queue stays full.
async fn flood(addr: SocketAddr) -> JoinSet<()> {
    let (mut flood, is_full) = (JoinSet::new(), Arc::new(Notify::new()));
    let mut more = 0..MORE;
    for n in 0.. {
        let client = BareConnection::open(addr).await.client();
        flood.spawn(log_in_again_and_again(n, client, Arc::clone(&is_full)));
        tokio::select! {
            () = is_full.notified() => if more.next().is_none() { break },
            () = sleep(Duration::from_millis(5)) => {}
        }
    }
    flood
}

async fn log_in_again_and_again(
    n: usize,
    mut client: AuthServiceClient<BareConnection>,
    is_full: Arc<Notify>,
) {
    for attempt in 0.. {
        let email = format!("nobody-{n}-{attempt}@example.com");
        let status = refused(client.login(login(&email)).await);
        if reason(&status) == (Code::ResourceExhausted, "OVERLOADED".to_owned()) {
            is_full.notify_one();
            // A faster loop would take the core from the hashing thread.
            sleep(Duration::from_secs(1)).await;
        }
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

both! {
    async fn a_flood_of_invented_logins_never_keeps_a_known_device_out(database: TestDatabase) {
        let service = Service::start(database, &OPTIONS).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let first = service.client().login(login("ana@example.com")).await.unwrap();
        let mut device_token = first.into_inner().device_token;
        let _flood = flood(service.addr).await;
        for _ in 0..3 {
            let request = proto::LoginRequest { device_token, ..login("ana@example.com") };
            let answer = service.client().login(request).await.expect("she goes first");
            device_token = answer.into_inner().device_token;
        }
    }

    async fn a_flood_of_invented_logins_never_keeps_a_signed_in_user_out(database: TestDatabase) {
        let service = Service::start(database, &OPTIONS).await;
        let ana = service.sign_up("ana@example.com").await;
        let _flood = flood(service.addr).await;
        let passwords = [PASSWORD, "a second long passphrase", "a third long passphrase"];
        for change in passwords.windows(2) {
            let change = change_password_from(change[0], change[1]);
            service.account(&ana).change_password(change).await.expect("she goes first");
        }
    }
}
