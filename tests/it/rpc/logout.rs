//! Logout: idempotent, and it ends exactly one session.

use std::time::Duration;

use auth_service::proto::{self, user_event::Payload};
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{
    START, Service, TestDatabase, TokenParts, both, logout, malformed_tokens, reason, refused,
};

const HOUR: Duration = Duration::from_hours(1);
/// The reasons of `SESSION_ENDED`, as the proto names them.
const REUSE: &str = "SESSION_END_REASON_REUSE";
const LOGOUT: &str = "SESSION_END_REASON_LOGOUT";

/// The ids of the sessions that were revoked for this reason.
async fn revoked(database: &TestDatabase, reason: &str) -> Vec<String> {
    let id = database.hex("id");
    let sql = format!("SELECT {id} FROM sessions WHERE revoke_reason = '{reason}'");
    database.texts(&sql).await.into_iter().flatten().collect()
}

fn simple(id: &str) -> String {
    id.replace('-', "")
}

both! {
    async fn a_logout_ends_exactly_the_session_of_its_token(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        let other_user = service.sign_up("bob@example.com").await;
        service.log_out(&session.tokens.refresh_token).await.unwrap();

        assert_eq!(revoked(&service.database, "logout").await, [simple(&session.id)]);
        let status = refused(service.refresh(&session.tokens.refresh_token).await);
        assert_eq!(reason(&status), (Code::Unauthenticated, "INVALID_TOKEN".to_owned()));
        service.refresh(&other.tokens.refresh_token).await.expect("it goes on");
        service.refresh(&other_user.tokens.refresh_token).await.expect("it goes on");
    }

    async fn a_rotated_token_logs_out_too(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let second = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let third = service.refresh(&second.refresh_token).await.unwrap();
        service.clock.advance(HOUR);
        // Two generations old and after the window: Refresh would treat it as reuse.
        service.log_out(&session.tokens.refresh_token).await.unwrap();

        assert_eq!(revoked(&service.database, "logout").await, [simple(&session.id)]);
        refused(service.refresh(&third.refresh_token).await);
    }

    async fn the_event_of_a_logout_says_what_a_gateway_needs(database: TestDatabase) {
        let service = Service::start(database, &["--access-token-ttl", "7m"]).await;
        let session = service.sign_up("ana@example.com").await;
        service.clock.advance(Duration::from_micros(1_500_001));
        service.log_out(&session.tokens.refresh_token).await.unwrap();

        let event = service.database.events().await.pop().unwrap();
        assert_eq!(event.user_id, session.user_id);
        let occurred_at = event.occurred_at.unwrap();
        assert_eq!(occurred_at.seconds, START.as_secs() + 1);
        assert_eq!(occurred_at.nanos, 500_001_000);
        let Some(Payload::SessionEnded(ended)) = event.payload else {
            panic!("the last event is the end of the session");
        };
        assert_eq!(ended.session_id, session.id);
        assert_eq!(ended.reason().as_str_name(), LOGOUT);
        let expire_at = ended.access_tokens_expire_at.unwrap();
        assert_eq!(expire_at.seconds, occurred_at.seconds + 7 * 60);
        assert_eq!(expire_at.nanos, occurred_at.nanos);
        let event_type = "SELECT event_type FROM outbox_events WHERE user_version = 2";
        assert_eq!(service.database.text(event_type).await.as_deref(), Some("SESSION_ENDED"));
    }

    async fn logging_out_again_is_ok_and_no_second_event(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.log_out(&next.refresh_token).await.unwrap();
        let rows = service.database.dump("sessions").await;
        service.clock.advance(HOUR);
        service.log_out(&next.refresh_token).await.unwrap();
        service.log_out(&session.tokens.refresh_token).await.unwrap();

        assert_eq!(service.database.dump("sessions").await, rows);
        assert_eq!(service.database.ended_sessions().await.len(), 1);
    }

    async fn concurrent_logouts_end_the_session_once(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let (mut client, token) = (service.client(), session.tokens.refresh_token.clone());
            calls.spawn(async move { client.logout(logout(&token)).await.is_ok() });
        }
        assert!(calls.join_all().await.into_iter().all(|ok| ok));
        assert_eq!(service.database.ended_sessions().await.len(), 1);
    }

    async fn logging_out_of_a_session_that_was_reused_changes_nothing(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR);
        refused(service.refresh(&session.tokens.refresh_token).await);
        service.log_out(&next.refresh_token).await.unwrap();

        assert_eq!(revoked(&service.database, "reuse").await, [simple(&session.id)]);
        assert_eq!(service.database.ended_sessions().await, [(session.id, REUSE)]);
    }

    async fn logging_out_of_an_expired_session_is_ok_and_no_event(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let rows = service.database.dump("sessions").await;
        service.clock.advance(24 * HOUR);
        service.log_out(&session.tokens.refresh_token).await.unwrap();
        assert_eq!(service.database.dump("sessions").await, rows);
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn logging_out_of_an_unknown_session_is_ok_and_changes_nothing(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let mut unknown = TokenParts::of(&session.tokens.refresh_token);
        unknown.handle[0] ^= 1;
        let rows = service.database.dump("sessions").await;
        service.log_out(&unknown.text()).await.unwrap();
        assert_eq!(service.database.dump("sessions").await, rows);
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn a_malformed_refresh_token_ends_no_session(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let rows = service.database.dump("sessions").await;
        for (what, token) in malformed_tokens(&session) {
            let status = refused(service.log_out(&token).await);
            let expected = (Code::Unauthenticated, "INVALID_TOKEN".to_owned());
            assert_eq!(reason(&status), expected, "{what}");
        }
        let status = refused(service.log_out("").await);
        let expected = (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned());
        assert_eq!(reason(&status), expected);
        assert_eq!(service.database.dump("sessions").await, rows);
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn the_events_of_a_user_are_counted_without_gaps(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let bob = service.sign_up("bob@example.com").await;
        let mut sessions = vec![ana, bob];
        for _ in 0..3 {
            sessions.push(service.sign_in("ana@example.com").await);
        }
        let user_id = sessions[0].user_id.clone();
        // Besides logouts there is one reuse, and there are logouts that end nothing.
        service.refresh(&sessions[2].tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR);
        refused(service.refresh(&sessions[2].tokens.refresh_token).await);
        for session in sessions.iter().chain(&sessions) {
            service.log_out(&session.tokens.refresh_token).await.unwrap();
        }

        let events = service.database.events().await.into_iter();
        let (of_ana, of_bob): (Vec<_>, Vec<_>) = events.partition(|event| event.user_id == user_id);
        let versions = |events: &[proto::UserEvent]| -> Vec<i64> {
            events.iter().map(|event| event.user_version).collect()
        };
        assert_eq!(versions(&of_ana), [1, 2, 3, 4, 5]);
        assert_eq!(versions(&of_bob), [1, 2]);
        let ended = service.database.ended_sessions().await.into_iter();
        let reasons: Vec<_> = ended.map(|(_, reason)| reason).collect();
        assert_eq!(reasons, [REUSE, LOGOUT, LOGOUT, LOGOUT, LOGOUT]);
    }

    async fn concurrent_logouts_of_one_user_are_counted_without_gaps(service: Service) {
        let mut tokens = vec![service.sign_up("ana@example.com").await.tokens.refresh_token];
        for _ in 0..9 {
            tokens.push(service.sign_in("ana@example.com").await.tokens.refresh_token);
        }
        let mut calls = JoinSet::new();
        for token in tokens {
            let mut client = service.client();
            calls.spawn(async move { client.logout(logout(&token)).await.is_ok() });
        }
        assert!(calls.join_all().await.into_iter().all(|ok| ok));
        let events = service.database.events().await;
        let versions: Vec<_> = events.iter().map(|event| event.user_version).collect();
        assert_eq!(versions, (1..=11).collect::<Vec<_>>());
    }
}
