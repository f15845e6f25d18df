//! A connection to the database that breaks at one exact point of a call. The repeated call must
//! find one account and one session, no matter how the first one ended.

use auth_service::{model::Clock as _, proto};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::harness::{
    Backend, Proxy, Service, TestDatabase, TokenParts, Trap, assert_outage, login, logout, reason,
    refused, register,
};

async fn service() -> Option<(Service, Proxy)> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    let proxy = Proxy::start(&database).await;
    let url = proxy.url.clone();
    let service = Service::start(database, &["--database-url", &url]).await;
    Some((service, proxy))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_whose_count_got_no_answer_is_taken_back() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    // The time of the failure, in the statement that writes the counters.
    let failed_at = service.clock.now().as_micros().to_be_bytes();
    proxy.set(Trap::LoseReplyTo(failed_at.to_vec()));
    let request = login("ana@example.com");
    assert_outage(&refused(service.client().login(request).await));
    assert!(proxy.has_acted());
    let failures = "SELECT COALESCE(sum(day_failures), 0) FROM login_throttle";
    assert_eq!(service.database.count(failures).await, 0);
    let request = login("ana@example.com");
    let again = refused(service.client().login(request).await);
    assert_eq!(reason(&again).1, "INVALID_CREDENTIALS");
    assert_eq!(service.database.count(failures).await, 1);
}

async fn count(service: &Service, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    service.database.count(&sql).await
}

/// The numbers of accounts, sessions and events.
async fn counts(service: &Service) -> [i64; 3] {
    [
        count(service, "users").await,
        count(service, "sessions").await,
        count(service, "outbox_events").await,
    ]
}

async fn sign_up(service: &Service, email: &str) -> Result<String, Status> {
    let request = proto::RegisterRequest {
        start_session: true,
        ..register(email)
    };
    let answer = service.client().register(request).await?.into_inner();
    Ok(answer.tokens.expect("a session was wanted").refresh_token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_cut_in_the_middle_is_made_whole_or_not_at_all() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    let cuts = ["BEGIN", "INSERT INTO \"users\"", "USER_CREATED", "COMMIT"];
    for (index, point) in cuts.into_iter().enumerate() {
        let before = counts(&service).await;
        let email = format!("user-{index}@example.com");
        proxy.set(Trap::CutBefore(point.into()));
        assert_outage(&refused(sign_up(&service, &email).await));
        assert!(proxy.has_acted(), "{point}");
        assert_eq!(counts(&service).await, before, "{point}");
        let token = sign_up(&service, &email).await.expect("it was not there");
        service.refresh(&token).await.expect("a live session");
        assert_eq!(counts(&service).await, before.map(|count| count + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_commit_got_no_answer_is_one_account() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    proxy.set(Trap::LoseReplyTo("COMMIT".into()));
    let email = "ana@example.com";
    assert_outage(&refused(sign_up(&service, email).await));
    assert!(proxy.has_acted());
    let again = refused(sign_up(&service, email).await);
    assert_eq!(reason(&again).1, "EMAIL_TAKEN");
    assert_eq!(counts(&service).await, [1, 1, 1]);
    service
        .client()
        .login(login(email))
        .await
        .expect("it is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_session_got_no_answer_can_be_repeated() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    sign_up(&service, "ana@example.com").await.unwrap();
    // Only the statement that starts the session contains it.
    let device_name = "the lost phone".to_owned();
    proxy.set(Trap::LoseReplyTo(device_name.clone().into()));
    let lost = proto::LoginRequest {
        device_name,
        ..login("ana@example.com")
    };
    assert_outage(&refused(service.client().login(lost).await));
    assert!(proxy.has_acted());
    let answer = service
        .client()
        .login(login("ana@example.com"))
        .await
        .expect("again");
    let token = answer.into_inner().tokens.expect("tokens").refresh_token;
    service.refresh(&token).await.expect("a live session");
    // The first session, whose token was lost, ends by itself later.
    assert_eq!(counts(&service).await, [1, 3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_breaks_anywhere_leaves_one_successor() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    let token = sign_up(&service, "ana@example.com").await.unwrap();
    // Only the statements of Refresh and Logout contain it.
    let handle_hash = Sha256::digest(TokenParts::of(&token).handle).to_vec();

    proxy.set(Trap::CutBefore(handle_hash.clone()));
    assert_outage(&refused(service.refresh(&token).await));
    assert!(proxy.has_acted());
    let second = service
        .refresh(&token)
        .await
        .expect("still the current one")
        .refresh_token;

    proxy.set(Trap::LoseReplyTo(handle_hash.clone()));
    assert_outage(&refused(service.refresh(&second).await));
    assert!(proxy.has_acted());
    // The answer to the repeated call is lost as well.
    proxy.set(Trap::LoseReplyTo(handle_hash));
    assert_outage(&refused(service.refresh(&second).await));
    assert!(proxy.has_acted());
    let third = service.refresh(&second).await.expect("the successor");
    let again = service.refresh(&second).await.expect("the same");
    assert_eq!(again.refresh_token, third.refresh_token);
    service
        .refresh(&third.refresh_token)
        .await
        .expect("it works");

    let generation = "SELECT generation FROM sessions";
    assert_eq!(service.database.count(generation).await, 4);
    assert_eq!(counts(&service).await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_breaks_anywhere_has_one_event() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    let token = sign_up(&service, "ana@example.com").await.unwrap();
    for (trap, events) in [
        (Trap::CutBefore("SESSION_ENDED".into()), 1),
        (Trap::CutBefore("COMMIT".into()), 1),
        (Trap::LoseReplyTo("COMMIT".into()), 2),
    ] {
        proxy.set(trap);
        assert_outage(&refused(service.client().logout(logout(&token)).await));
        assert!(proxy.has_acted());
        assert_eq!(counts(&service).await, [1, 1, events]);
    }
    service
        .client()
        .logout(logout(&token))
        .await
        .expect("it has ended");
    assert_eq!(counts(&service).await, [1, 1, 2]);
    let status = refused(service.refresh(&token).await);
    assert_eq!(reason(&status).1, "INVALID_TOKEN");
}
