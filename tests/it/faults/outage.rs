//! A database that is lost, hangs or misbehaves: calls are answered in time with a constant text,
//! the health shows it, and the service recovers by itself.

use std::time::Duration;

use auth_service::{
    grpc::SERVICE_NAME,
    proto::{self},
};
use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use futures::future::join_all;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::{
    Backend, BareConnection, EVENTS, Proxy, Service, TestDatabase, assert_outage, both, error_line,
    login, logout, reason, refresh, refused, register, retry_after,
};

/// The service gives up a query after half of the request time-out.
const OPTIONS: [&str; 4] = ["--request-timeout", "4s", "--password-max-wait", "3s"];

/// A service behind a proxy to Postgres, and a refresh token of `ana@example.com`.
async fn behind_a_proxy() -> Option<(Service, Proxy, String)> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    let proxy = Proxy::start(&database).await;
    let mut options = OPTIONS.to_vec();
    options.extend(["--database-url", &proxy.url]);
    let service = Service::start(database, &options).await;
    let token = service
        .sign_up("ana@example.com")
        .await
        .tokens
        .refresh_token;
    Some((service, proxy, token))
}

/// The answers of all calls that need the database.
async fn all_refused(service: &Service, token: &str) -> [Status; 4] {
    let client = service.client();
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| client.clone());
    let (register, login, refresh, logout) = tokio::join!(
        a.register(register("ben@example.com")),
        b.login(login("ana@example.com")),
        c.refresh(refresh(token)),
        d.logout(logout(token)),
    );
    [
        refused(register),
        refused(login),
        refused(refresh),
        refused(logout),
    ]
}

async fn assert_not_serving(service: &Service) {
    service.wait_for_health(ServingStatus::NotServing).await;
    let own = service.health(SERVICE_NAME).await.expect("health answers");
    assert_eq!(own, ServingStatus::NotServing);
    let expected = "not ready: the database does not answer\n";
    assert_eq!(service.probe("/readyz").await, (503, expected.to_owned()));
    assert_eq!(service.probe("/livez").await.0, 200);
}

/// The service works again, and the failed calls changed nothing.
async fn assert_healed(service: &Service, token: &str) {
    service.wait_for_health(ServingStatus::Serving).await;
    assert_eq!(service.probe("/readyz").await.0, 200);
    let users = "SELECT count(*) FROM users";
    assert_eq!(service.database.count(users).await, 1);
    let mut client = service.client();
    client.refresh(refresh(token)).await.expect("healed");
    client
        .login(login("ana@example.com"))
        .await
        .expect("healed");
    client
        .register(register("ben@example.com"))
        .await
        .expect("healed");
    client.logout(logout(token)).await.expect("healed");
    assert_eq!(service.database.count(users).await, 2);
}

/// Checks the answers and the health while the network is broken, and after it is whole again.
async fn is_an_outage_that_heals(fault: impl Fn(&Proxy)) {
    let Some((service, proxy, token)) = behind_a_proxy().await else {
        return;
    };
    fault(&proxy);
    for status in all_refused(&service, &token).await {
        assert_outage(&status);
    }
    assert_not_serving(&service).await;
    proxy.heal();
    assert_healed(&service, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_an_internal_error_until_it_is_back() {
    is_an_outage_that_heals(Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_is_an_internal_error_within_the_deadline() {
    is_an_outage_that_heals(Proxy::freeze).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_shorter_than_the_time_limit_of_the_database_is_kept() {
    let Some((service, proxy, _)) = behind_a_proxy().await else {
        return;
    };
    let connection = BareConnection::open(service.addr).await;
    proxy.freeze();
    let calls = (0..20).map(|_| {
        let mut client = connection.client();
        let mut request = Request::new(login("ana@example.com"));
        request.set_timeout(Duration::from_millis(200));
        async move { refused(client.login(request).await) }
    });
    for status in join_all(calls).await {
        let expected = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
        assert_eq!(reason(&status), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_sqlite_file_is_an_internal_error_until_it_is_free() {
    let Some(database) = TestDatabase::create(Backend::Sqlite).await else {
        return;
    };
    let service = Service::start(database, &OPTIONS).await;
    let token = service
        .sign_up("ana@example.com")
        .await
        .tokens
        .refresh_token;

    let file = service.database.sqlite_file().expect("SQLite");
    let mut other = SqliteConnection::establish(file.to_str().expect("UTF-8")).expect("opens");
    other.batch_execute("BEGIN IMMEDIATE").expect("locks");
    let status = refused(service.client().refresh(refresh(&token)).await);
    assert_outage(&status);
    let status = refused(service.client().register(register("ben@example.com")).await);
    assert_outage(&status);
    other.batch_execute("ROLLBACK").expect("unlocks");
    assert_healed(&service, &token).await;
}

both! {
    async fn a_missing_table_is_an_internal_error_that_says_no_more(service: Service) {
        let token = service.sign_up("ana@example.com").await.tokens.refresh_token;
        let (client, database) = (service.client(), &service.database);
        database.execute("ALTER TABLE sessions RENAME TO hidden").await;
        for status in [
            refused(client.clone().login(login("ana@example.com")).await),
            refused(client.clone().refresh(refresh(&token)).await),
            refused(client.clone().logout(logout(&token)).await),
        ] {
            assert_outage(&status);
        }
        database.execute("ALTER TABLE hidden RENAME TO sessions").await;
        assert_healed(&service, &token).await;
    }

    async fn a_registration_whose_event_cannot_be_written_leaves_no_account(service: Service) {
        let (mut client, database) = (service.client(), &service.database);
        database.execute("ALTER TABLE outbox_events RENAME TO hidden").await;
        let request = proto::RegisterRequest { start_session: true, ..register("ana@example.com") };
        assert_outage(&refused(client.register(request.clone()).await));
        for table in ["users", "sessions"] {
            assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, 0);
        }
        database.execute("ALTER TABLE hidden RENAME TO outbox_events").await;
        client.register(request).await.expect("nothing is in the way");
        assert_eq!(database.count(EVENTS).await, 1);
    }

    async fn a_malformed_row_is_an_internal_error_that_no_retry_mends(service: Service) {
        service.sign_up("ana@example.com").await;
        service.database.execute("UPDATE users SET password_hash = 'n33dle'").await;
        let status = refused(service.client().login(login("ana@example.com")).await);
        insta::allow_duplicates! {
            insta::assert_snapshot!(error_line(&status), @"Internal INTERNAL: internal error");
        }
        assert_eq!(retry_after(&status), None);
        assert!(!String::from_utf8_lossy(status.details()).contains("n33dle"));
    }
}
