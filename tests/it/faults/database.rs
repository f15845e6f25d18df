//! A Postgres that is stopped, killed, frozen, all taken or read-only: the answer is a
//! constant text in time, health tells, and all heals by itself.

use auth_service::proto;
use futures::future::join_all;
use tokio_postgres::NoTls;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::{
    Backend, PostgresServer, Service, TestDatabase, login, logout, reason, refresh, refused,
    register, retry_after,
};

/// A database that hangs is given up after half of the request timeout.
const OPTIONS: [&str; 4] = ["--request-timeout", "4s", "--password-max-wait", "3s"];

const ANA: &str = "ana@example.com";

async fn sign_up(service: &Service, email: &str) -> String {
    let request = proto::RegisterRequest {
        start_session: true,
        ..register(email)
    };
    let answer = service
        .client()
        .register(request)
        .await
        .expect("registered");
    let tokens = answer.into_inner().tokens.expect("a session was wanted");
    tokens.refresh_token
}

/// Every call that writes is refused as the contract says, and health tells.
async fn assert_is_an_outage(service: &Service, token: &str) {
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| service.client());
    let (registered, logged_in, refreshed, logged_out) = tokio::join!(
        a.register(register("nobody@example.com")),
        b.login(login(ANA)),
        c.refresh(refresh(token)),
        d.logout(logout(token)),
    );
    assert_is_a_fault(&refused(registered));
    assert_is_a_fault(&refused(logged_in));
    assert_is_a_fault(&refused(refreshed));
    assert_is_a_fault(&refused(logged_out));
    service.wait_for_health(ServingStatus::NotServing).await;
    assert_eq!(service.probe("/readyz").await.0, 503);
    assert_eq!(service.probe("/livez").await.0, 200);
}

fn assert_is_a_fault(status: &Status) {
    assert_eq!(reason(status), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(status.message(), "internal error");
    assert!(retry_after(status).is_some());
}

/// Everything works again, and the calls that were refused left nothing behind. Returns
/// the next token.
async fn assert_is_healed(service: &Service, token: &str, newcomer: &str) -> String {
    service.wait_for_health(ServingStatus::Serving).await;
    assert_eq!(service.probe("/readyz").await.0, 200);
    let strays = "SELECT count(*) FROM users WHERE email = 'nobody@example.com'";
    assert_eq!(service.database.count(strays).await, 0);
    service.client().login(login(ANA)).await.expect("healed");
    let other = sign_up(service, newcomer).await;
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
    let token = sign_up(&service, ANA).await;

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

    // A restart that nobody calls in costs no call.
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
    let token = sign_up(&service, ANA).await;
    server.freeze_connections().await;
    // One try meets it, unless health does, and then that try waits in vain behind health.
    let mut tries = 1;
    while let Err(status) = service.client().refresh(refresh(&token)).await {
        assert_is_a_fault(&status);
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
    let token = sign_up(&service, ANA).await;

    let (holder, connection) = tokio_postgres::connect(&service.database.url(), NoTls)
        .await
        .expect("Postgres answers");
    tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; LOCK TABLE users")
        .await
        .expect("locked");
    let crowd = async {
        loop {
            let logins =
                (0..8).map(|_| async { refused(service.client().login(login(ANA)).await) });
            join_all(logins).await.iter().for_each(assert_is_a_fault);
        }
    };
    tokio::select! {
        () = service.wait_for_health(ServingStatus::NotServing) => {}
        () = crowd => {}
    }
    holder.batch_execute("ROLLBACK").await.expect("unlocked");
    assert_is_healed(&service, &token, "ben@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_an_outage_that_heals() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let service = Service::start(database, &OPTIONS).await;
    let token = sign_up(&service, ANA).await;
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
    set("off").await;
    assert_is_healed(&service, &token, "ben@example.com").await;
}
