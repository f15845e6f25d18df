//! A rotated token that comes back: a retry within the window, else reuse.

use std::{sync::Arc, time::Duration};

use auth_service::{model::Clock as _, proto::user_event::Payload};
use tonic::Code;

use super::{HOUR, MICROSECOND, RETRY_WINDOW, REUSE, SECOND, at, column};
use crate::harness::{
    Backend, ManualClock, START, Service, Session, TestDatabase, TokenParts, assert_invalid_token,
    both, reason, refused,
};

async fn revoke_reason(database: &TestDatabase, session: &Session) -> Option<String> {
    column(database, session, "revoke_reason").await
}

both! {
    async fn within_the_window_the_previous_token_returns_the_same_successor(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.clock.advance(HOUR);
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let row = service.database.dump("sessions").await;

        let mut access_tokens = vec![next.access_token];
        for wait in [Duration::ZERO, Duration::ZERO, MICROSECOND, 20 * SECOND, RETRY_WINDOW] {
            service.clock.set(START + HOUR + wait);
            let again = service.refresh(&session.tokens.refresh_token).await.unwrap();
            assert_eq!(again.refresh_token, next.refresh_token);
            // Only the access token is new. The refresh token does not live longer.
            assert!(!access_tokens.contains(&again.access_token));
            let issued_at = Duration::from_secs((HOUR + wait).as_secs());
            assert_eq!(again.access_token_expires_at, Some(at(issued_at + HOUR)));
            assert_eq!(again.refresh_token_expires_at, next.refresh_token_expires_at);
            access_tokens.push(again.access_token);
        }
        assert_eq!(service.database.dump("sessions").await, row, "a retry writes nothing");
        service.refresh(&next.refresh_token).await.expect("the successor is current");
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn without_a_retry_window_the_previous_token_is_reuse_at_once(database: TestDatabase) {
        let service = Service::start(database, &["--refresh-retry-window", "0s"]).await;
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let next = service.refresh(&next.refresh_token).await.expect("rotation works");
        let current = service.refresh(&next.refresh_token).await.unwrap();

        assert_invalid_token(&refused(service.refresh(&next.refresh_token).await));
        assert_invalid_token(&refused(service.refresh(&current.refresh_token).await));
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn a_retry_window_of_zero_is_zero_for_a_clock_behind_too(database: TestDatabase) {
        let never = ["--refresh-retry-window", "0s"];
        let service = Service::start(database, &never).await;
        let behind = Arc::new(ManualClock::new(service.clock.now() - SECOND));
        let replica = Service::start_at(service.database.clone(), behind, &never).await;
        let session = service.sign_up("ana@example.com").await;
        service.refresh(&session.tokens.refresh_token).await.unwrap();
        assert_invalid_token(&refused(replica.refresh(&session.tokens.refresh_token).await));
    }

    async fn reusing_a_rotated_token_ends_the_session_and_no_other(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        let other_user = service.sign_up("bob@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();

        service.clock.advance(RETRY_WINDOW + MICROSECOND);
        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        let database = &service.database;
        assert_eq!(revoke_reason(database, &session).await.as_deref(), Some("reuse"));
        assert_invalid_token(&refused(service.refresh(&next.refresh_token).await));
        // A second reuse does not end the session again.
        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));

        let reuse = (session.id, REUSE);
        assert_eq!(database.ended_sessions().await, [reuse]);
        service.refresh(&other.tokens.refresh_token).await.expect("it goes on");
        service.refresh(&other_user.tokens.refresh_token).await.expect("it goes on");
    }

    async fn the_event_of_a_reuse_says_what_a_gateway_needs(database: TestDatabase) {
        let service = Service::start(database, &["--access-token-ttl", "7m"]).await;
        let session = service.sign_up("ana@example.com").await;
        service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR + MICROSECOND);
        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));

        let event = service.database.events().await.pop().unwrap();
        assert_eq!(event.user_id, session.user_id);
        assert_eq!(event.user_version, 2);
        assert_eq!(event.occurred_at, Some(at(HOUR + MICROSECOND)));
        let Some(Payload::SessionEnded(ended)) = event.payload else {
            panic!("the last event is the end of the session");
        };
        assert_eq!(ended.session_id, session.id);
        assert_eq!(ended.reason().as_str_name(), REUSE);
        assert_eq!(ended.access_tokens_expire_at, Some(at(HOUR + MICROSECOND + 7 * 60 * SECOND)));
        let event_type = "SELECT event_type FROM outbox_events WHERE user_version = 2";
        assert_eq!(service.database.text(event_type).await.as_deref(), Some("SESSION_ENDED"));
    }

    async fn a_token_two_generations_old_is_reuse_even_within_the_window(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let second = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let third = service.refresh(&second.refresh_token).await.unwrap();

        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        assert_invalid_token(&refused(service.refresh(&second.refresh_token).await));
        assert_invalid_token(&refused(service.refresh(&third.refresh_token).await));
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn a_forged_secret_behind_a_right_handle_is_reuse(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let mut forged = TokenParts::of(&session.tokens.refresh_token);
        forged.secret[31] ^= 1;
        assert_invalid_token(&refused(service.refresh(&forged.text()).await));

        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn a_reuse_whose_event_cannot_be_written_ends_nothing(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR);
        let database = &service.database;
        let (forbid, allow) = match database.backend() {
            Backend::Sqlite => (
                "CREATE TRIGGER refuse BEFORE INSERT ON outbox_events \
                 BEGIN SELECT RAISE(ABORT, 'no'); END",
                "DROP TRIGGER refuse",
            ),
            Backend::Postgres => (
                "ALTER TABLE outbox_events ADD CONSTRAINT refuse \
                 CHECK (event_type <> 'SESSION_ENDED')",
                "ALTER TABLE outbox_events DROP CONSTRAINT refuse",
            ),
        };
        database.execute(forbid).await;
        let (sessions, users) = (database.dump("sessions").await, database.dump("users").await);
        let status = refused(service.refresh(&session.tokens.refresh_token).await);
        assert_eq!(reason(&status), (Code::Internal, "INTERNAL".to_owned()));
        assert_eq!(database.dump("sessions").await, sessions);
        assert_eq!(database.dump("users").await, users);

        database.execute(allow).await;
        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        let events = database.events().await;
        let versions: Vec<_> = events.iter().map(|event| event.user_version).collect();
        assert_eq!(versions, [1, 2]);
        let reuse = (session.id, REUSE);
        assert_eq!(database.ended_sessions().await, [reuse]);
    }
}
