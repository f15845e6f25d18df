use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use realchat_verifier::Refusal;

use super::*;
use crate::proto::{RevokedUser, SnapshotBegin};

const MAX_AGE: Duration = Duration::from_mins(5);
const SESSION: &str = "01a20fda-7110-7d2d-905e-1beca7432624";

impl Verifier {
    fn is_unavailable(&self) -> bool {
        matches!(self.verify("no token"), Err(Error::Unavailable))
    }

    #[track_caller]
    fn receives(&self, update: Update) {
        self.receive(update).expect("a well-formed message");
    }

    fn revocations(&self) -> usize {
        self.known().edge.revocations()
    }
}

fn keys(secret: &[u8]) -> KeySet {
    let key = SigningKey {
        key_id: "key-1".to_owned(),
        algorithm: ALGORITHM.to_owned(),
        secret: secret.to_vec(),
    };
    KeySet {
        verification_keys: vec![key],
        access_token_ttl: MAX_AGE.try_into().ok(),
        max_age: MAX_AGE.try_into().ok(),
        ..KeySet::default()
    }
}

fn valid_keys() -> Update {
    Update::Keys(keys(&[7; 32]))
}

fn begin() -> Update {
    Update::SnapshotBegin(SnapshotBegin {})
}

fn end(cursor: &str) -> Update {
    let cursor = cursor.to_owned();
    Update::SnapshotEnd(SnapshotEnd { cursor })
}

fn heartbeat(cursor: &str) -> Update {
    let cursor = cursor.to_owned();
    Update::Heartbeat(Heartbeat { cursor })
}

fn revoked(session: &str, until: Option<SystemTime>) -> Update {
    Update::Revoked(Revocation {
        tokens: Some(Tokens::SessionId(session.to_owned())),
        until: until.map(Timestamp::from),
    })
}

/// Has received a snapshot.
fn ready() -> Verifier {
    let verifier = Verifier::default();
    for update in [valid_keys(), begin(), end("r1-1")] {
        assert!(verifier.is_unavailable());
        verifier.receives(update);
    }
    verifier
}

#[tokio::test(start_paused = true)]
async fn tokens_are_verified_until_max_age_after_a_snapshot_or_a_heartbeat() {
    let verifier = ready();
    verifier.ready().await;
    assert_eq!(verifier.begin_stream(), "r1-1");
    for _ in 0..2 {
        tokio::time::advance(MAX_AGE).await;
        assert!(!verifier.is_unavailable());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(verifier.is_unavailable());
        verifier.receives(heartbeat("r1-2"));
        assert!(!verifier.is_unavailable());
    }
    assert_eq!(verifier.begin_stream(), "r1-2");
}

#[tokio::test(start_paused = true)]
async fn keys_and_revocations_do_not_say_that_all_revocations_are_known() {
    let verifier = ready();
    tokio::time::advance(MAX_AGE).await;
    // A replica without its database sends only keys.
    verifier.receives(valid_keys());
    assert!(!verifier.is_unavailable());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(verifier.is_unavailable());
    // After a long outage the keys come first, then the revocations of the outage.
    verifier.receives(valid_keys());
    verifier.receives(revoked(SESSION, Some(SystemTime::now())));
    assert!(verifier.is_unavailable());
    verifier.receives(begin());
    verifier.receives(heartbeat("r1-2"));
    assert!(verifier.is_unavailable(), "the snapshot has not ended");
    verifier.receives(end("r1-3"));
    assert!(!verifier.is_unavailable());
}

#[test]
fn a_snapshot_that_did_not_begin_does_not_end() {
    let verifier = Verifier::default();
    verifier.receives(valid_keys());
    assert!(verifier.receive(end("r1-1")).is_none());
    verifier.receives(begin());
    verifier.begin_stream(); // The first one was lost.
    assert!(verifier.receive(end("r1-1")).is_none());
    assert!(verifier.is_unavailable());
    assert_eq!(verifier.begin_stream(), "");
}

#[test]
fn a_heartbeat_without_a_complete_snapshot_moves_no_cursor() {
    let verifier = Verifier::default();
    verifier.receives(valid_keys());
    verifier.receives(heartbeat("r1-1"));
    assert_eq!(verifier.begin_stream(), "");
    verifier.receives(begin());
    verifier.receives(heartbeat("r1-1"));
    assert!(verifier.is_unavailable());
    assert_eq!(verifier.begin_stream(), "");

    let verifier = ready();
    verifier.receives(begin());
    verifier.receives(heartbeat("r1-2"));
    assert_eq!(verifier.begin_stream(), "r1-1");
    verifier.receives(heartbeat("r1-3")); // News since the cursor came instead of a snapshot.
    assert_eq!(verifier.begin_stream(), "r1-3");
}

#[test]
fn short_keys_and_missing_durations_are_malformed() {
    let verifier = Verifier::default();
    for secret in [&[][..], &[7; 31]] {
        assert!(verifier.receive(Update::Keys(keys(secret))).is_none());
    }
    let (mut without_life, mut without_max_age) = (keys(&[7; 32]), keys(&[7; 32]));
    without_life.access_token_ttl = None;
    without_max_age.max_age = None;
    for keys in [without_life, without_max_age] {
        assert!(verifier.receive(Update::Keys(keys)).is_none());
    }
    assert!(verifier.receive(valid_keys()).is_some());
}

#[test]
fn a_key_of_another_algorithm_is_skipped() {
    let mut keys = keys(&[7; 32]);
    let header = BASE64URL.encode(r#"{"typ":"at+jwt","alg":"HS256","kid":"key-1"}"#);
    let token = format!("{header}.e30.{}", BASE64URL.encode([0; 32]));
    for (algorithm, expected) in [
        (ALGORITHM, Refusal::Malformed), // The signature is wrong.
        ("ES256", Refusal::UnknownKey),
    ] {
        algorithm.clone_into(&mut keys.verification_keys[0].algorithm);
        let verifier = Verifier::default();
        verifier.receives(Update::Keys(keys.clone()));
        let verdict = verifier.known().edge.verify(&token, SystemTime::now());
        assert_eq!(verdict.err(), Some(expected));
    }
}

#[test]
fn a_malformed_revocation_is_refused() {
    let (verifier, now) = (ready(), Some(SystemTime::now()));
    assert!(verifier.receive(revoked(SESSION, now)).is_some());
    assert!(verifier.receive(revoked("x", now)).is_none());
    assert!(verifier.receive(revoked(SESSION, None)).is_none());
    let until = now.map(Timestamp::from);
    let user = Tokens::User(RevokedUser {
        user_id: SESSION.to_owned(),
        issued_before: None,
    });
    for tokens in [None, Some(user)] {
        let revocation = Update::Revoked(Revocation { tokens, until });
        assert!(verifier.receive(revocation).is_none());
    }
    assert_eq!(verifier.revocations(), 1);
}

#[tokio::test(start_paused = true)]
async fn expired_revocations_are_forgotten() {
    let verifier = ready();
    verifier.receives(revoked(SESSION, Some(SystemTime::UNIX_EPOCH)));
    tokio::time::advance(BETWEEN_CLEANUPS).await;
    verifier.receives(heartbeat("r1-2"));
    assert_eq!(verifier.revocations(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_ahead_makes_the_gateway_forget_nothing_that_holds() {
    let verifier = ready();
    let hour = Duration::from_hours(1);
    let until = SystemTime::now() + hour;
    verifier.receives(revoked(SESSION, Some(until)));
    tokio::time::advance(BETWEEN_CLEANUPS).await;
    verifier.known_mut().clean_up(until + hour);
    assert_eq!(verifier.revocations(), 1);
    tokio::time::advance(hour + BETWEEN_CLEANUPS).await;
    verifier.known_mut().clean_up(until - hour);
    assert_eq!(verifier.revocations(), 1, "the wall clock is behind");
    tokio::time::advance(BETWEEN_CLEANUPS).await;
    verifier.known_mut().clean_up(until + hour);
    assert_eq!(verifier.revocations(), 0);
}
