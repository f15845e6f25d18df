//! More logins than the machine can hash.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tonic::Code;

use crate::harness::{
    BareConnection, PASSWORD, Service, TestDatabase, both, change_password_from, login, reason,
    refused,
};

/// Logins of invented users until this is dropped, so many that some are refused. These come
/// again, so the queue stays full.
async fn flood(addr: SocketAddr) -> JoinSet<()> {
    let (mut flood, is_full) = (JoinSet::new(), Arc::new(Notify::new()));
    for n in 0.. {
        let (full, client) = (
            Arc::clone(&is_full),
            BareConnection::open(addr).await.client(),
        );
        flood.spawn(async move {
            let mut client = client;
            for attempt in 0.. {
                let email = format!("nobody-{n}-{attempt}@example.com");
                let status = refused(client.login(login(&email)).await);
                if reason(&status) == (Code::ResourceExhausted, "OVERLOADED".to_owned()) {
                    full.notify_one();
                    sleep(Duration::from_millis(200)).await;
                }
            }
        });
        tokio::select! {
            () = is_full.notified() => break,
            () = sleep(Duration::from_millis(5)) => {}
        }
    }
    flood
}

both! {
    async fn a_flood_of_invented_logins_never_keeps_a_signed_in_user_out(database: TestDatabase) {
        let options = ["--password-threads", "1", "--bcrypt-cost", "12", "--password-max-wait", "6s"];
        let service = Service::start(database, &options).await;
        let ana = service.sign_up("ana@example.com").await;
        let _flood = flood(service.addr).await;
        let passwords = [PASSWORD, "a second long passphrase", "a third long passphrase"];
        for change in passwords.windows(2) {
            let change = change_password_from(change[0], change[1]);
            service.account(&ana).change_password(change).await.expect("she goes first");
        }
    }
}
