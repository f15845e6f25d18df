//! Refresh: one row per session, one successor per token, and an end to the session when
//! a rotated token comes back.

use std::{sync::Arc, time::Duration};

use auth_service::{
    model::Clock as _,
    proto::{self, user_event::Payload},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::{Code, Status};

use crate::harness::{
    Backend, ManualClock, START, Service, Session, TestDatabase, TokenParts, both, bytes_of,
    connect, crc32, hex_of, malformed_tokens, reason, refresh, refused,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const MICROSECOND: Duration = Duration::from_micros(1);
const RETRY_WINDOW: Duration = Duration::from_secs(30);
/// The reasons of `SESSION_ENDED`, as the proto names them.
const REUSE: &str = "SESSION_END_REASON_REUSE";
const LOGOUT: &str = "SESSION_END_REASON_LOGOUT";

/// The time this long after the test's start, as the wire has it.
fn at(after: Duration) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: START.as_secs() + i64::try_from(after.as_secs()).unwrap(),
        nanos: i32::try_from(after.subsec_nanos()).unwrap(),
    }
}

fn assert_invalid_token<T>(answer: Result<T, Status>) {
    let status = refused(answer);
    let expected = (Code::Unauthenticated, "INVALID_TOKEN".to_owned());
    assert_eq!(reason(&status), expected);
    assert_eq!(status.message(), "the token is not valid");
}

fn sha256(bytes: &[u8]) -> String {
    hex_of(&Sha256::digest(bytes))
}

/// One column of a session's row, as text.
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

async fn revoke_reason(database: &TestDatabase, session: &Session) -> Option<String> {
    column(database, session, "revoke_reason").await
}

/// Refreshes `count` times at once, on several connections to each of the services.
async fn refresh_at_once(
    services: &[&Service],
    token: &str,
    count: usize,
) -> Vec<Result<proto::TokenPair, Status>> {
    const CONNECTIONS: usize = 4;
    let mut channels = Vec::new();
    for connection in 0..CONNECTIONS * services.len() {
        channels.push(connect(services[connection % services.len()].addr).await);
    }
    let barrier = Arc::new(Barrier::new(count));
    let mut calls = JoinSet::new();
    for call in 0..count {
        let channel = channels[call % channels.len()].clone();
        let mut client = proto::auth_service_client::AuthServiceClient::new(channel);
        let (barrier, token) = (Arc::clone(&barrier), token.to_owned());
        calls.spawn(async move {
            barrier.wait().await;
            let answer = client.refresh(refresh(&token)).await?;
            Ok(answer.into_inner().tokens.expect("a refresh has tokens"))
        });
    }
    calls.join_all().await
}

#[test]
fn the_checksum_of_these_tests_is_crc_32_iso_hdlc() {
    // The catalogue's check value.
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

    async fn a_token_is_a_prefix_and_base64url_of_handle_secret_and_checksum(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let first = &session.tokens.refresh_token;
        let second = service.refresh(first).await.unwrap().refresh_token;
        let other = service.sign_in("ana@example.com").await.tokens.refresh_token;

        assert_eq!(first.len(), 74);
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
        assert_invalid_token(service.refresh(&last.refresh_token).await);
        // A retry, had the session lived.
        assert_invalid_token(service.refresh(&next.refresh_token).await);
        assert!(service.database.ended_sessions().await.is_empty(), "expiry is no event");
    }

    async fn a_session_that_is_not_refreshed_ends_without_an_event(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.clock.set(START + 24 * HOUR - MICROSECOND);
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();

        service.clock.advance(24 * HOUR);
        let row = service.database.dump("sessions").await;
        assert_invalid_token(service.refresh(&next.refresh_token).await);
        // What would be reuse in a live session.
        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);
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
        assert_invalid_token(service.refresh(&last.refresh_token).await);
    }

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
            // The access token is a new one, and nothing else lives longer.
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

    async fn reusing_a_rotated_token_ends_the_session_and_no_other(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        let stranger = service.sign_up("bob@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();

        service.clock.advance(RETRY_WINDOW + MICROSECOND);
        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);
        let database = &service.database;
        assert_eq!(revoke_reason(database, &session).await.as_deref(), Some("reuse"));
        assert_invalid_token(service.refresh(&next.refresh_token).await);
        // Once more is no second end.
        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);

        let reuse = (session.id, REUSE);
        assert_eq!(database.ended_sessions().await, [reuse]);
        service.refresh(&other.tokens.refresh_token).await.expect("it goes on");
        service.refresh(&stranger.tokens.refresh_token).await.expect("it goes on");
    }

    async fn the_event_of_a_reuse_says_what_a_gateway_needs(database: TestDatabase) {
        let service = Service::start(database, &["--access-token-ttl", "7m"]).await;
        let session = service.sign_up("ana@example.com").await;
        service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR + MICROSECOND);
        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);

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

        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);
        assert_invalid_token(service.refresh(&second.refresh_token).await);
        assert_invalid_token(service.refresh(&third.refresh_token).await);
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn a_forged_secret_behind_a_right_handle_is_reuse(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let mut forged = TokenParts::of(&session.tokens.refresh_token);
        forged.secret[31] ^= 1;
        assert_invalid_token(service.refresh(&forged.text()).await);

        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn a_token_of_an_unknown_session_changes_nothing(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let mut unknown = TokenParts::of(&session.tokens.refresh_token);
        unknown.handle[0] ^= 1;
        let rows = service.database.dump("sessions").await;
        assert_invalid_token(service.refresh(&unknown.text()).await);
        assert_eq!(service.database.dump("sessions").await, rows);
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn without_a_retry_window_the_previous_token_is_reuse_at_once(database: TestDatabase) {
        let service = Service::start(database, &["--refresh-retry-window", "0s"]).await;
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let next = service.refresh(&next.refresh_token).await.expect("rotation works");
        let current = service.refresh(&next.refresh_token).await.unwrap();

        assert_invalid_token(service.refresh(&next.refresh_token).await);
        assert_invalid_token(service.refresh(&current.refresh_token).await);
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn a_session_that_was_logged_out_refreshes_no_more(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.log_out(&next.refresh_token).await.unwrap();

        let rows = service.database.dump("sessions").await;
        assert_invalid_token(service.refresh(&next.refresh_token).await);
        // A retry, had the session lived.
        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);
        service.clock.advance(HOUR);
        // Reuse, had the session lived.
        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);
        assert_eq!(service.database.dump("sessions").await, rows);
        let logout = (session.id, LOGOUT);
        assert_eq!(service.database.ended_sessions().await, [logout]);
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
        assert_invalid_token(service.refresh(&session.tokens.refresh_token).await);
        let events = database.events().await;
        let versions: Vec<_> = events.iter().map(|event| event.user_version).collect();
        assert_eq!(versions, [1, 2]);
        let reuse = (session.id, REUSE);
        assert_eq!(database.ended_sessions().await, [reuse]);
    }

    async fn of_100_concurrent_refreshes_all_return_one_successor(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let clock = Arc::clone(&service.clock);
        let replica = Service::start_at(service.database.clone(), clock, &[]).await;
        let services = [&service, &replica];
        let answers = refresh_at_once(&services, &session.tokens.refresh_token, 100).await;

        let mut successors = Vec::new();
        let mut access_tokens = Vec::new();
        for answer in answers {
            let tokens = answer.expect("nobody is logged out");
            successors.push(tokens.refresh_token);
            access_tokens.push(tokens.access_token);
        }
        successors.dedup();
        assert_eq!(successors.len(), 1);
        access_tokens.sort();
        access_tokens.dedup();
        assert_eq!(access_tokens.len(), 100);
        assert_eq!(generation(&service.database, &session).await, "2");
        replica.refresh(&successors[0]).await.expect("it is current");
        assert!(service.database.ended_sessions().await.is_empty());
    }

    async fn concurrent_reuses_end_the_session_once(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.refresh(&session.tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR);
        let answers = refresh_at_once(&[&service], &session.tokens.refresh_token, 20).await;
        answers.into_iter().for_each(assert_invalid_token);
        let reuse = (session.id, REUSE);
        assert_eq!(service.database.ended_sessions().await, [reuse]);
    }

    async fn two_replicas_with_clocks_a_second_apart_are_one_service(service: Service) {
        let behind = Arc::new(ManualClock::new(service.clock.now() - SECOND));
        let replica = Service::start_at(service.database.clone(), behind, &[]).await;
        let session = service.sign_up("ana@example.com").await;

        // Rotated where the clock is ahead, retried where it is behind, and the reverse.
        let second = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let retried = replica.refresh(&session.tokens.refresh_token).await.unwrap();
        assert_eq!(retried.refresh_token, second.refresh_token);
        let third = replica.refresh(&second.refresh_token).await.unwrap();
        let retried = service.refresh(&second.refresh_token).await.unwrap();
        assert_eq!(retried.refresh_token, third.refresh_token);

        // A reuse at one ends the session at both.
        service.clock.advance(HOUR);
        assert_invalid_token(service.refresh(&second.refresh_token).await);
        assert_invalid_token(replica.refresh(&third.refresh_token).await);
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
        assert_invalid_token(replica.refresh(&session.tokens.refresh_token).await);
    }

    async fn what_is_no_refresh_token_is_refused_and_changes_nothing(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let rows = service.database.dump("sessions").await;
        for (what, token) in malformed_tokens(&session) {
            let status = refused(service.refresh(&token).await);
            let expected = (Code::Unauthenticated, "INVALID_TOKEN".to_owned());
            assert_eq!(reason(&status), expected, "{what}");
            assert_eq!(status.message(), "the token is not valid", "{what}");
        }
        assert_eq!(service.database.dump("sessions").await, rows);
        assert!(service.database.ended_sessions().await.is_empty());
        service.refresh(&session.tokens.refresh_token).await.expect("it was current all along");
    }

    async fn what_is_no_refresh_token_is_refused_without_the_database(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        service.database.execute("ALTER TABLE sessions RENAME TO gone").await;
        let status = refused(service.refresh(&session.tokens.refresh_token).await);
        assert_eq!(status.code(), Code::Internal);
        for (_, token) in malformed_tokens(&session) {
            assert_invalid_token(service.refresh(&token).await);
        }
    }

    async fn an_empty_refresh_token_is_a_missing_argument(service: Service) {
        use tonic_types::StatusExt as _;
        let status = refused(service.refresh("").await);
        let expected = (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned());
        assert_eq!(reason(&status), expected);
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "refresh_token");
        assert_eq!(violations[0].description, "must not be empty");
    }

    async fn the_database_holds_hashes_and_a_sealed_successor(service: Service) {
        let database = &service.database;
        let session = service.sign_up("ana@example.com").await;
        let old = TokenParts::of(&session.tokens.refresh_token);
        let [handle_hash, token_hash, previous, sealed] =
            ["handle_hash", "token_hash", "previous_token_hash", "sealed_successor"]
                .map(|column| database.hex(column));
        let column = async |name: &str| column(database, &session, name).await;
        assert_eq!(column(&handle_hash).await, Some(sha256(&old.handle)));
        assert_eq!(column(&token_hash).await, Some(sha256(&old.secret)));
        assert_eq!(column("device_name").await, None);

        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let new = TokenParts::of(&next.refresh_token);
        assert_eq!(column(&handle_hash).await, Some(sha256(&old.handle)));
        assert_eq!(column(&token_hash).await, Some(sha256(&new.secret)));
        assert_eq!(column(&previous).await, Some(sha256(&old.secret)));

        let mut pad = Hmac::<Sha256>::new_from_slice(&old.secret).unwrap();
        pad.update(b"refresh successor");
        let pad = pad.finalize().into_bytes();
        let sealed = bytes_of(&column(&sealed).await.unwrap());
        assert_eq!(sealed.len(), 32);
        let unsealed: Vec<_> = sealed.iter().zip(pad).map(|(byte, pad)| byte ^ pad).collect();
        assert_eq!(unsealed, new.secret);
    }

    async fn the_database_holds_no_usable_token(service: Service) {
        let database = &service.database;
        let session = service.sign_up("ana@example.com").await;
        let next = service.refresh(&session.tokens.refresh_token).await.unwrap();
        let other = service.sign_in("ana@example.com").await;

        let mut rows = Vec::new();
        for table in ["users", "sessions", "outbox_events", "outbox_lease"] {
            rows.extend(database.dump(table).await);
        }
        let rows = rows.join("\n");
        // The dump shows what is there ..
        let hash = sha256(&TokenParts::of(&next.refresh_token).secret);
        assert!(rows.contains(&hash));
        let pairs = [&session.tokens, &next, &other.tokens];
        for token in pairs.map(|pair| &pair.refresh_token) {
            // .. and neither a token nor a part of it is.
            let parts = TokenParts::of(token);
            let (text, body) = (token.to_lowercase(), token[4..].to_lowercase());
            for secret in [&text, &body, &hex_of(text.as_bytes()), &hex_of(body.as_bytes())] {
                assert!(!rows.to_lowercase().contains(secret.as_str()));
            }
            assert!(!rows.contains(&hex_of(&parts.handle)));
            assert!(!rows.contains(&hex_of(&parts.secret)));
        }
        // Nor is an access token.
        for pair in pairs {
            assert!(!rows.contains(&pair.access_token.to_lowercase()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_sqlite_hold_no_byte_of_a_token() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let service = Service::start(database, &[]).await;
    let session = service.sign_up("ana@example.com").await;
    let next = service
        .refresh(&session.tokens.refresh_token)
        .await
        .unwrap();

    let file = service.database.sqlite_file().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(std::fs::read(file.with_extension("db-wal")).unwrap());
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    for token in [&session.tokens.refresh_token, &next.refresh_token] {
        let parts = TokenParts::of(token);
        assert!(
            holds(&Sha256::digest(&parts.secret)),
            "the hashes are found"
        );
        assert!(!holds(&parts.secret));
        assert!(!holds(&parts.handle));
        assert!(!holds(&token.as_bytes()[4..]));
    }
}
