//! A connection to the database that breaks at exactly one point of a call. What the client
//! repeats must find one account and one session, whatever became of the first try.

use auth_service::proto;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::harness::{
    Backend, Proxy, Service, TestDatabase, Trap, login, logout, reason, refresh, refused, register,
    retry_after,
};

async fn service() -> Option<(Service, Proxy)> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    let proxy = Proxy::start(&database).await;
    let url = proxy.url.clone();
    let service = Service::start(database, &["--database-url", &url]).await;
    Some((service, proxy))
}

fn assert_is_an_outage(status: &Status) {
    assert_eq!(reason(status), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(status.message(), "internal error");
    assert!(retry_after(status).is_some());
}

async fn count(service: &Service, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    service.database.count(&sql).await
}

/// Accounts, sessions and events.
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

async fn exchange(service: &Service, token: &str) -> Result<String, Status> {
    let answer = service.client().refresh(refresh(token)).await?.into_inner();
    Ok(answer.tokens.expect("tokens").refresh_token)
}

/// What the statements of Refresh and Logout look for, and no other.
fn handle_hash(token: &str) -> Vec<u8> {
    let body = token.strip_prefix("rcr_").expect("a refresh token");
    let bytes = URL_SAFE_NO_PAD.decode(body).expect("base64url");
    Sha256::digest(&bytes[..16]).to_vec()
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
        assert_is_an_outage(&refused(sign_up(&service, &email).await));
        assert!(proxy.sprung(), "{point}");
        assert_eq!(counts(&service).await, before, "{point}");
        let token = sign_up(&service, &email).await.expect("it was not there");
        exchange(&service, &token).await.expect("a live session");
        assert_eq!(counts(&service).await, before.map(|count| count + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_commit_went_unheard_is_one_account() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    proxy.set(Trap::LoseReplyTo("COMMIT".into()));
    let email = "ana@example.com";
    assert_is_an_outage(&refused(sign_up(&service, email).await));
    assert!(proxy.sprung());
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
async fn a_login_whose_commit_went_unheard_can_be_repeated() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    sign_up(&service, "ana@example.com").await.unwrap();
    let login = || proto::LoginRequest {
        device_name: "a phone".to_owned(),
        ..login("ana@example.com")
    };
    proxy.set(Trap::LoseReplyTo("a phone".into()));
    assert_is_an_outage(&refused(service.client().login(login()).await));
    assert!(proxy.sprung());
    let answer = service.client().login(login()).await.expect("again");
    let token = answer.into_inner().tokens.expect("tokens").refresh_token;
    exchange(&service, &token).await.expect("a live session");
    // The session that nobody knows the token of ends by itself.
    assert_eq!(counts(&service).await, [1, 3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_breaks_anywhere_leaves_one_successor() {
    let Some((service, proxy)) = service().await else {
        return;
    };
    let token = sign_up(&service, "ana@example.com").await.unwrap();
    let bait = handle_hash(&token);

    proxy.set(Trap::CutBefore(bait.clone()));
    assert_is_an_outage(&refused(exchange(&service, &token).await));
    assert!(proxy.sprung());
    let second = exchange(&service, &token)
        .await
        .expect("still the current one");

    proxy.set(Trap::LoseReplyTo(bait.clone()));
    assert_is_an_outage(&refused(exchange(&service, &second).await));
    assert!(proxy.sprung());
    // The repetition is lost as well.
    proxy.set(Trap::LoseReplyTo(bait));
    assert_is_an_outage(&refused(exchange(&service, &second).await));
    assert!(proxy.sprung());
    let third = exchange(&service, &second).await.expect("the successor");
    assert_eq!(exchange(&service, &second).await.expect("the same"), third);
    exchange(&service, &third).await.expect("it works");

    let generation = "SELECT generation FROM sessions";
    assert_eq!(service.database.count(generation).await, 4);
    assert_eq!(counts(&service).await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_breaks_anywhere_is_told_once() {
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
        assert_is_an_outage(&refused(service.client().logout(logout(&token)).await));
        assert!(proxy.sprung());
        assert_eq!(counts(&service).await, [1, 1, events]);
    }
    service
        .client()
        .logout(logout(&token))
        .await
        .expect("it has ended");
    assert_eq!(counts(&service).await, [1, 1, 2]);
    let status = refused(exchange(&service, &token).await);
    assert_eq!(reason(&status).1, "INVALID_TOKEN");
}
