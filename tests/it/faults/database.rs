//! A Postgres that is stopped, killed, frozen, read-only or has no free connection: calls are
//! answered in time with a constant text, the health shows it, and the service recovers by itself.

use std::time::Duration;

use auth_service::proto;
use futures::future::join_all;
use tokio_postgres::NoTls;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::{
    Backend, PostgresServer, Service, TestDatabase, assert_outage, db, login, logout, refresh,
    refused, register,
};

/// The service gives up a query after half of the request time-out.
const OPTIONS: [&str; 4] = ["--request-timeout", "4s", "--password-max-wait", "3s"];

const ANA: &str = "ana@example.com";

/// Every call that writes gets the documented error, and the health shows the outage.
async fn assert_is_an_outage(service: &Service, token: &str) {
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| service.client());
    let (registered, logged_in, refreshed, logged_out) = tokio::join!(
        a.register(register("nobody@example.com")),
        b.login(login(ANA)),
        c.refresh(refresh(token)),
        d.logout(logout(token)),
    );
    assert_outage(&refused(registered));
    assert_outage(&refused(logged_in));
    assert_outage(&refused(refreshed));
    assert_outage(&refused(logged_out));
    service.wait_for_health(ServingStatus::NotServing).await;
    assert_eq!(service.probe("/readyz").await.0, 503);
    assert_eq!(service.probe("/livez").await.0, 200);
}

/// All calls work again, and the refused calls changed nothing. Returns the next refresh token.
async fn assert_is_healed(service: &Service, token: &str, newcomer: &str) -> String {
    service.wait_for_health(ServingStatus::Serving).await;
    assert_eq!(service.probe("/readyz").await.0, 200);
    let strays = "SELECT count(*) FROM users WHERE email = 'nobody@example.com'";
    assert_eq!(service.database.count(strays).await, 0);
    service.client().login(login(ANA)).await.expect("healed");
    let other = service.sign_up(newcomer).await.tokens.refresh_token;
    service
        .client()
        .logout(logout(&other))
        .await
        .expect("healed");
    let answer = service.client().refresh(refresh(token)).await;
    let tokens = answer.expect("healed").into_inner().tokens;
    tokens.expect("tokens").refresh_token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_killed_or_frozen_is_an_outage_that_heals() {
    let Some(mut server) = PostgresServer::start().await else {
        return;
    };
    let database = TestDatabase::create_at(&server.url(), "").await;
    let service = Service::start(database, &OPTIONS).await;
    let token = service.sign_up(ANA).await.tokens.refresh_token;

    server.stop().await;
    assert_is_an_outage(&service, &token).await;
    server.start_again().await;
    let token = assert_is_healed(&service, &token, "ben@example.com").await;

    server.kill().await;
    assert_is_an_outage(&service, &token).await;
    server.start_again().await;
    let token = assert_is_healed(&service, &token, "cleo@example.com").await;

    server.freeze();
    assert_is_an_outage(&service, &token).await;
    server.thaw();
    let token = assert_is_healed(&service, &token, "dan@example.com").await;

    // A restart between two calls costs no call.
    server.stop().await;
    server.start_again().await;
    service
        .client()
        .refresh(refresh(&token))
        .await
        .expect("a new connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_is_not_used_again() {
    let Some(server) = PostgresServer::start().await else {
        return;
    };
    let database = TestDatabase::create_at(&server.url(), "").await;
    let mut options = OPTIONS.to_vec();
    options.extend(["--database-max-connections", "1"]);
    let service = Service::start(database, &options).await;
    let token = service.sign_up(ANA).await.tokens.refresh_token;
    server.freeze_connections().await;
    // One call meets the frozen connection. If the health check meets it first, the call waits
    // behind that check and fails too.
    let mut tries = 1;
    while let Err(status) = service.client().refresh(refresh(&token)).await {
        assert_outage(&status);
        tries += 1;
        assert!(tries <= 3, "it is used again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_does_not_hold_up_a_start_for_ever() {
    let Some(server) = PostgresServer::start().await else {
        return;
    };
    let database = TestDatabase::create_at(&server.url(), "").await;
    server.freeze();
    let clock = std::sync::Arc::new(crate::harness::ManualClock::new(crate::harness::START));
    let error = match crate::harness::build(&database, clock, &OPTIONS).await {
        Ok(_) => panic!("the start must fail"),
        Err(error) => format!("{error:#}"),
    };
    assert_eq!(error, "the database did not answer in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_connections_all_hang_is_an_outage_that_heals() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let mut options = OPTIONS.to_vec();
    options.extend(["--database-max-connections", "2"]);
    let service = Service::start(database, &options).await;
    let token = service.sign_up(ANA).await.tokens.refresh_token;

    let (holder, connection) = tokio_postgres::connect(&service.database.direct_url(), NoTls)
        .await
        .expect("Postgres answers");
    tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; LOCK TABLE users")
        .await
        .expect("locked");
    let logins_at_once = async {
        loop {
            let logins =
                (0..8).map(|_| async { refused(service.client().login(login(ANA)).await) });
            join_all(logins).await.iter().for_each(assert_outage);
        }
    };
    tokio::select! {
        () = service.wait_for_health(ServingStatus::NotServing) => {}
        () = logins_at_once => {}
    }
    holder.batch_execute("ROLLBACK").await.expect("unlocked");
    assert_is_healed(&service, &token, "ben@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_needs_no_row_that_the_lease_needs_on_postgres() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let service = Service::start(database, &OPTIONS).await;
    let database = &service.database;
    let (holder, connection) = tokio_postgres::connect(&database.direct_url(), NoTls)
        .await
        .expect("Postgres answers");
    tokio::spawn(connection);
    let lock = "BEGIN; UPDATE outbox_lease SET owner = owner";
    holder.batch_execute(lock).await.expect("locked");
    let db = db(database, Duration::from_secs(2));
    db.ping().await.expect("it does not wait");
    // And it changes no row.
    holder.batch_execute("ROLLBACK").await.expect("unlocked");
    let version = "SELECT xmin::text FROM outbox_lease";
    let before = database.text(version).await;
    db.ping().await.expect("Postgres answers");
    assert_eq!(database.text(version).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_an_outage_that_heals() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let service = Service::start(database, &OPTIONS).await;
    let session = service.sign_up(ANA).await;
    let token = session.tokens.refresh_token.clone();
    let set = async |value: &str| {
        let name = service
            .database
            .text("SELECT current_database()::text")
            .await;
        let name = name.expect("a name");
        let sql = format!(
            "BEGIN READ WRITE; ALTER DATABASE {name} SET default_transaction_read_only = {value}; COMMIT"
        );
        service.database.execute(&sql).await;
    };
    set("on").await;
    let disconnect = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
    service.database.execute(disconnect).await;
    assert_is_an_outage(&service, &token).await;
    // Connections that are made now stay read-only. A read does not fail by it.
    let reads = (0..16).map(|_| async {
        let request = proto::ListSessionsRequest::default();
        service.account(&session).list_sessions(request).await
    });
    for read in join_all(reads).await {
        read.expect("it only reads");
    }
    set("off").await;
    // The first call that fails shows that the others would fail too.
    let mut failed = 0;
    for _ in 0..16 {
        let refreshed = service.client().refresh(refresh(&token)).await;
        failed += usize::from(refreshed.is_err());
    }
    assert!(failed <= 1, "{failed} calls failed");
    assert_is_healed(&service, &token, "ben@example.com").await;
}
