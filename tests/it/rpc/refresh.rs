//! Refresh: one row per session, one successor per token, and the end of the session when a
//! rotated token comes back.

mod batches;
mod races;
mod reuse;
mod storage;

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::harness::{
    START, Service, Session, TestDatabase, TokenParts, assert_invalid_token, both, crc32,
    error_line, hex_of, malformed_tokens, refused, violation,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const MICROSECOND: Duration = Duration::from_micros(1);
const RETRY_WINDOW: Duration = Duration::from_secs(30);

/// The reasons of `SESSION_ENDED`, as the proto names them.
const REUSE: &str = "SESSION_END_REASON_REUSE";
const LOGOUT: &str = "SESSION_END_REASON_LOGOUT";

/// The time this long after [`START`].
fn at(after: Duration) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: START.as_secs() + i64::try_from(after.as_secs()).unwrap(),
        nanos: i32::try_from(after.subsec_nanos()).unwrap(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex_of(&Sha256::digest(bytes))
}

/// A column of a session's row, as text.
async fn column(database: &TestDatabase, session: &Session, column: &str) -> Option<String> {
    let id = database.id(&session.id);
    database
        .text(&format!("SELECT {column} FROM sessions WHERE id = {id}"))
        .await
}

async fn generation(database: &TestDatabase, session: &Session) -> String {
    let generation = column(database, session, "CAST(generation AS TEXT)").await;
    generation.expect("a session has a row")
}

#[test]
fn the_checksum_of_these_tests_is_crc_32_iso_hdlc() {
    // The check value of the catalogue of CRC algorithms.
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

both! {
    async fn a_refresh_replaces_both_tokens(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.clock.advance(10 * SECOND);
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();

        assert_ne!(next.refresh_token, session.tokens.refresh_token);
        assert_ne!(next.access_token, session.tokens.access_token);
        assert_eq!(next.token_type, "Bearer");
        assert_eq!(next.access_token_expires_at, Some(at(HOUR + 10 * SECOND)));
        assert_eq!(next.refresh_token_expires_at, Some(at(24 * HOUR + 10 * SECOND)));
        assert_eq!(generation(&service.database, &session).await, "2");

        let after = service.refresh(&next.refresh_token).await.unwrap();
        assert_ne!(after.refresh_token, next.refresh_token);
        assert_eq!(generation(&service.database, &session).await, "3");
        assert_eq!(service.database.count("SELECT count(*) FROM sessions").await, 1);
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn a_token_is_a_prefix_and_base64url_of_handle_secret_tag_and_checksum(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let first = &session.tokens.refresh_token;
        let second = service.refresh(first).await.unwrap().refresh_token;
        let other = service.sign_in("ana@example.com").await.tokens.refresh_token;

        assert_eq!(first.len(), 84);
        let [first_parts, second_parts, other_parts] =
            [first, &second, &other].map(|token| TokenParts::of(token));
        assert_eq!(&first_parts.text(), first);
        assert_eq!(first_parts.handle, second_parts.handle, "a session keeps its handle");
        assert_ne!(first_parts.secret, second_parts.secret);
        assert_ne!(first_parts.handle, other_parts.handle, "two sessions, two handles");
    }

    async fn the_end_slides_with_every_refresh_up_to_the_absolute_end(database: TestDatabase) {
        let options = ["--refresh-token-ttl", "24h", "--session-max-age", "36h"];
        let service = Service::start(database, &options).await;
        let session = service.sign_up("ana@example.com").await;
        assert_eq!(session.tokens.refresh_token_expires_at, Some(at(24 * HOUR)));

        service.clock.advance(6 * HOUR);
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        assert_eq!(next.refresh_token_expires_at, Some(at(30 * HOUR)));

        service.clock.advance(20 * HOUR);
        let next = service.refresh(&next.refresh_token).await.unwrap();
        assert_eq!(next.refresh_token_expires_at, Some(at(36 * HOUR)));

        service.clock.set(START + 36 * HOUR - MICROSECOND);
        let last = service.refresh(&next.refresh_token).await.unwrap();
        assert_eq!(last.refresh_token_expires_at, Some(at(36 * HOUR)));

        service.clock.set(START + 36 * HOUR);
        assert_invalid_token(&refused(service.refresh(&last.refresh_token).await));
        // In a live session this would be a retry.
        assert_invalid_token(&refused(service.refresh(&next.refresh_token).await));
        assert!(service.database.ended_sessions().await.is_empty(), "expiry is no event");
    }

    async fn a_session_that_is_not_refreshed_ends_without_an_event(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.clock.set(START + 24 * HOUR - MICROSECOND);
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();

        service.clock.advance(24 * HOUR);
        let row = service.database.dump("sessions").await;
        assert_invalid_token(&refused(service.refresh(&next.refresh_token).await));
        // In a live session this would be reuse.
        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        assert_eq!(service.database.dump("sessions").await, row);
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn a_session_lives_for_30_days_unless_configured_otherwise(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let mut token = session.tokens.refresh_token;
        for hours in 1..36 {
            service.clock.set(START + hours * 20 * HOUR);
            token = service.refresh(&token).await.unwrap().refresh_token;
        }
        service.clock.set(START + 30 * 24 * HOUR - MICROSECOND);
        let last = service.refresh(&token).await.unwrap();
        assert_eq!(last.refresh_token_expires_at, Some(at(30 * 24 * HOUR)));
        service.clock.advance(MICROSECOND);
        assert_invalid_token(&refused(service.refresh(&last.refresh_token).await));
    }

    async fn a_token_of_an_unknown_session_changes_nothing(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let mut unknown = TokenParts::of(&session.tokens.refresh_token);
        unknown.handle[0] ^= 1;
        let rows = service.database.dump("sessions").await;
        assert_invalid_token(&refused(service.refresh(&unknown.text()).await));
        assert_eq!(service.database.dump("sessions").await, rows);
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn a_session_that_was_logged_out_refreshes_no_more(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.log_out(&next.refresh_token).await.unwrap();

        let rows = service.database.dump("sessions").await;
        assert_invalid_token(&refused(service.refresh(&next.refresh_token).await));
        // In a live session this would be a retry.
        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        service.clock.advance(HOUR);
        // In a live session this would be reuse.
        assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        assert_eq!(service.database.dump("sessions").await, rows);
        let logout = (session.id, LOGOUT);
        assert_eq!(service.database.ended_sessions().await, [logout]);
    }

    async fn a_malformed_refresh_token_is_refused_and_changes_nothing(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let rows = service.database.dump("sessions").await;
        for (what, token) in malformed_tokens(&session) {
            let status = refused(service.refresh(&token).await);
            assert_eq!(error_line(&status), "Unauthenticated INVALID_TOKEN: the token is not valid", "{what}");
        }
        assert_eq!(service.database.dump("sessions").await, rows);
        assert!(service.database.ended_sessions().await.is_empty());
        service.refresh(&session.tokens.refresh_token).await.expect("it was current all along");
    }

    async fn a_malformed_refresh_token_is_refused_without_the_database(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.database.execute("ALTER TABLE sessions RENAME TO gone").await;
        let status = refused(service.refresh(&session.tokens.refresh_token).await);
        assert_eq!(status.code(), Code::Internal);
        for (_, token) in malformed_tokens(&session) {
            assert_invalid_token(&refused(service.refresh(&token).await));
        }
    }

    async fn an_empty_refresh_token_is_a_missing_argument(service: Service) {
        let status = refused(service.refresh("").await);
        let expected = ("refresh_token".to_owned(), "must not be empty".to_owned());
        assert_eq!(violation(&status), expected);
    }
}
