//! How long access tokens live, and what the events say about it.

use std::{sync::Arc, time::Duration};

use auth_service::{
    model::Clock as _,
    proto::{self, TokenPair, user_event::Payload},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;

use super::{ALL, HOUR, START, Service, replica};
use crate::harness::{Session, TestDatabase, assert_invalid_token, both, refused};

const SECOND: Duration = Duration::from_secs(1);

fn claim(token: &str, name: &str) -> i64 {
    let claims = token.split('.').nth(1).expect("three parts");
    let claims: Value = serde_json::from_slice(&BASE64URL.decode(claims).unwrap()).unwrap();
    claims[name].as_i64().expect("a number")
}

/// The `exp` of the access token, which the answer repeats.
fn expiry(tokens: &TokenPair) -> i64 {
    let exp = claim(&tokens.access_token, "exp");
    let expires_at = tokens.access_token_expires_at.expect("it is set");
    assert_eq!((expires_at.seconds, expires_at.nanos), (exp, 0));
    exp
}

/// What the event of the session's end says, in seconds, rounded up.
async fn announced(database: &TestDatabase, session: &Session) -> i64 {
    let events = database.events().await.into_iter();
    let mut ended = events.filter_map(|event| match event.payload {
        Some(Payload::SessionEnded(ended)) if ended.session_id == session.id => Some(ended),
        _ => None,
    });
    let expire_at = ended
        .next()
        .expect("an event")
        .access_tokens_expire_at
        .unwrap();
    assert!(ended.next().is_none(), "one event");
    expire_at.seconds
}

/// A session, and the latest `exp` of its access tokens.
struct Issued {
    session: Session,
    latest: i64,
}

/// Logs in, refreshes and retries on one replica, then refreshes on another.
async fn issue(first: &Service, second: &Service, email: &str, rounds: u32) -> Issued {
    let session = first.sign_in(email).await;
    let mut latest = expiry(&session.tokens);
    let mut token = session.tokens.refresh_token.clone();
    for _ in 0..rounds {
        let next = first.refresh(&token).await.unwrap();
        first.clock.advance(20 * SECOND);
        let retried = first.refresh(&token).await.expect("a retry");
        let other = second.refresh(&next.refresh_token).await.unwrap();
        for tokens in [&next, &retried, &other] {
            latest = latest.max(expiry(tokens));
        }
        token = other.refresh_token;
    }
    let tokens = TokenPair {
        refresh_token: token,
        ..session.tokens
    };
    Issued {
        session: Session { tokens, ..session },
        latest,
    }
}

both! {
    async fn no_access_token_outlives_its_session(database: TestDatabase) {
        let options = [
            "--session-max-age", "2s", "--refresh-token-ttl", "2s", "--refresh-retry-window", "1s",
        ];
        let service = Service::start(database, &options).await;
        service.clock.advance(SECOND / 2);
        let session = service.sign_up("ana@example.com").await;
        // The session ends at 2.5 s.
        let end = START.as_secs() + 2;
        assert_eq!(expiry(&session.tokens), end);
        assert_eq!(expiry(&service.sign_in("ana@example.com").await.tokens), end);
        service.clock.advance(SECOND);
        let token = &session.tokens.refresh_token;
        let next = service.refresh(token).await.unwrap();
        let retried = service.refresh(token).await.unwrap();
        assert_eq!([expiry(&next), expiry(&retried)], [end, end]);
        assert_eq!(claim(&next.access_token, "iat"), START.as_secs() + 1);

        service.log_out(token).await.unwrap();
        assert_eq!(announced(&service.database, &session).await, end);
    }

    async fn a_session_whose_end_is_near_shortens_only_its_own_tokens(database: TestDatabase) {
        let options = ["--session-max-age", "25h"];
        let service = Service::start(database, &options).await;
        let session = service.sign_up("ana@example.com").await;
        service.clock.advance(23 * HOUR);
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        assert_eq!(expiry(&next), (START + 24 * HOUR).as_secs());
        service.clock.advance(3 * HOUR / 2);
        let last = service.refresh(&next.refresh_token).await.unwrap();
        assert_eq!(expiry(&last), (START + 25 * HOUR).as_secs());
        let other = service.sign_in("ana@example.com").await;
        assert_eq!(expiry(&other.tokens), (service.clock.now() + HOUR).as_secs());
    }

    async fn an_event_covers_tokens_of_a_longer_life(database: TestDatabase) {
        let long = Service::start(database, &["--access-token-ttl", "24h"]).await;
        let clock = Arc::clone(&long.clock);
        let lowered = ["--access-token-ttl", "5m", "--refresh-retry-window", "1s"];
        let short = Service::start_at(long.database.clone(), clock, &lowered).await;
        for (n, act) in ALL.into_iter().enumerate() {
            for rounds in 0..3 {
                let email = format!("user{n}{rounds}@example.com");
                let own = short.sign_up(&email).await;
                let Issued { session, latest } = issue(&long, &short, &email, rounds).await;
                // A fresh access token of the caller's own session.
                let tokens = short.refresh(&own.tokens.refresh_token).await.unwrap();
                let own = Session { tokens, ..own };
                act.end(&short, &own, &session).await;
                let announced = announced(&short.database, &session).await;
                assert!(announced >= latest, "{act:?}: {announced} is before {latest}");
                assert!(announced <= latest + 31, "{act:?}: {announced} is far after {latest}");
            }
        }
    }

    async fn an_event_of_reuse_covers_tokens_of_a_longer_life(database: TestDatabase) {
        let long = Service::start(database, &["--access-token-ttl", "24h"]).await;
        let clock = Arc::clone(&long.clock);
        let lowered = ["--access-token-ttl", "5m"];
        let short = Service::start_at(long.database.clone(), clock, &lowered).await;
        let first = short.sign_up("ana@example.com").await;
        let Issued { session, latest } = issue(&long, &short, "ana@example.com", 1).await;
        let stolen = session.tokens.refresh_token.clone();
        short.refresh(&stolen).await.unwrap();
        short.clock.advance(HOUR);
        assert_invalid_token(&refused(short.refresh(&stolen).await));
        assert!(announced(&short.database, &session).await >= latest);
        short.refresh(&first.tokens.refresh_token).await.expect("another session");
    }

    async fn an_event_covers_a_retry_by_a_clock_that_is_ahead(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let token = &session.tokens.refresh_token;
        let ahead = replica(&service, START + 50 * SECOND, &[]).await;
        service.refresh(token).await.unwrap();
        // The rotation at the other replica is 20 s old.
        ahead.clock.set(START + 20 * SECOND);
        let retried = ahead.refresh(token).await.expect("a retry");
        service.log_out(token).await.unwrap();
        assert!(announced(&service.database, &session).await >= expiry(&retried));
    }

    async fn a_token_that_lives_longer_than_ours_is_refused(database: TestDatabase) {
        let long = Service::start(database, &["--access-token-ttl", "301s"]).await;
        let short = replica(&long, START, &["--access-token-ttl", "5m"]).await;
        let of_long = long.sign_up("ana@example.com").await;
        let of_short = short.sign_in("ana@example.com").await;
        let get = async |service: &Service, session: &Session| {
            let mut account = service.account(session);
            account.get_account(proto::GetAccountRequest {}).await
        };
        get(&long, &of_short).await.expect("a shorter life");
        get(&long, &of_long).await.expect("its own");
        get(&short, &of_short).await.expect("its own");
        assert_invalid_token(&refused(get(&short, &of_long).await));
        // The client refreshes and goes on.
        let tokens = short.refresh(&of_long.tokens.refresh_token).await.unwrap();
        let of_long = Session { tokens, ..of_long };
        get(&short, &of_long).await.expect("a new one");
    }
}
