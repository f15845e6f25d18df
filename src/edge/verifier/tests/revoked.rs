//! Tokens of sessions that have ended.

use super::*;

/// When the last token that was issued before [`iat`] expires.
fn the_end() -> SystemTime {
    iat() + LIFE
}
const OTHER: Uuid = Uuid::from_u128(7);

fn is_revoked(edge: &Edge) -> bool {
    edge.verify(&valid(), iat()) == Err(Refusal::Revoked)
}

#[test]
fn a_revoked_session_is_refused_and_no_other() {
    let mut edge = edge();
    edge.revoke_session(OTHER, the_end());
    edge.revoke_session(USER, the_end());
    assert!(!is_revoked(&edge));
    edge.revoke_session(SESSION, the_end());
    assert!(is_revoked(&edge));
    assert_eq!(edge.revocations(), 3);
}

#[test]
fn all_earlier_tokens_of_a_revoked_user_are_refused_and_no_later_one() {
    let mut edge = edge();
    edge.revoke_user(OTHER, the_end(), the_end());
    edge.revoke_user(SESSION, the_end(), the_end());
    edge.revoke_user(USER, at(1_764_499_999_999), the_end());
    assert!(!is_revoked(&edge), "issued after it");
    edge.revoke_user(USER, at(1_764_500_001_000), the_end());
    assert!(is_revoked(&edge), "issued before it");
}

/// `iat` has whole seconds, and a session's id has its start in milliseconds.
#[test]
fn in_the_second_of_the_act_only_sessions_that_it_started_stay() {
    let second = 1_764_500_000_000_000; // microseconds
    for (issued_before, started, expected) in [
        (second, second - 1_000_000, false), // the very second: issued at the same time or later
        (second, second, false),
        (second + 1, second - 1000, true),
        (second + 1, second, false), // the same millisecond
        (second + 1000, second + 999, true),
        (second + 1000, second + 1000, false),
        (second + 500_000, second - 1_000_000, true),
        (second + 500_000, second + 499_000, true),
        (second + 500_000, second + 500_000, false),
        (second + 500_999, second + 500_000, false),
        (second + 500_000, second + 900_000, false),
        (second + 999_999, second + 998_000, true),
        (second + 999_999, second + 999_000, false),
        (second + 1_000_000, second + 999_000, true), // the next second
        (second + 1_000_000, second + 1_000_000, true), // it started after its token
        (second - 1, second - 1_000_000, false),
    ] {
        let mut edge = edge();
        let issued_before = SystemTime::UNIX_EPOCH + Duration::from_micros(issued_before);
        edge.revoke_user(USER, issued_before, the_end());
        let session = session_started(started / 1000);
        let token = with(PAYLOAD, &SESSION.to_string(), &session.to_string());
        let verdict = edge.verify(&signed(HEADER, &token, KEY), iat());
        assert_eq!(
            verdict == Err(Refusal::Revoked),
            expected,
            "{issued_before:?} {session}"
        );
        assert!(expected || verdict.is_ok());
    }
}

#[test]
fn an_id_without_a_time_is_no_session_of_the_second() {
    let mut edge = edge();
    edge.revoke_user(USER, iat() + Duration::from_millis(1), the_end());
    for session in [
        "f19aed27-0000-4000-8000-0000000000aa",
        &Uuid::max().to_string(),
    ] {
        let token = with(PAYLOAD, &SESSION.to_string(), session);
        let verdict = edge.verify(&signed(HEADER, &token, KEY), iat());
        assert_eq!(verdict, Err(Refusal::Revoked));
    }
}

#[test]
fn of_two_revocations_of_a_user_the_later_counts_whatever_the_order() {
    let (early, late) = (at(1_764_499_000_000), at(1_764_500_001_000));
    for order in [[0, 1], [1, 0]] {
        let mut edge = edge();
        for act in order {
            // The earlier act names the later end.
            let (issued_before, until) = [(early, the_end()), (late, iat())][act];
            edge.revoke_user(USER, issued_before, until);
        }
        edge.forget_expired(the_end());
        assert!(is_revoked(&edge));
        assert_eq!(edge.revocations(), 1);
    }
}

#[test]
fn a_revocation_that_comes_again_with_an_earlier_end_is_kept() {
    let mut edge = edge();
    edge.revoke_session(SESSION, the_end());
    edge.revoke_session(SESSION, iat());
    edge.forget_expired(the_end());
    assert!(is_revoked(&edge));
}

#[test]
fn a_revocation_is_kept_for_a_minute_after_its_end() {
    let mut edge = edge();
    let end = the_end() + Duration::from_nanos(1); // of whole seconds, it lasts until the next
    edge.revoke_session(SESSION, end);
    edge.revoke_user(USER, iat(), end);
    edge.forget_expired(the_end() + Duration::from_millis(61_999));
    assert_eq!(edge.revocations(), 2);
    edge.forget_expired(the_end() + Duration::from_secs(62));
    assert_eq!(edge.revocations(), 0);
    assert!(!is_revoked(&edge));
}

#[test]
fn times_out_of_range_are_kept() {
    let mut edge = edge();
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    edge.revoke_session(SESSION, far);
    edge.revoke_user(USER, far, far);
    edge.forget_expired(the_end());
    assert_eq!(edge.revocations(), 2);
    assert!(is_revoked(&edge));
    edge.revoke_user(
        OTHER,
        SystemTime::UNIX_EPOCH - LIFE,
        SystemTime::UNIX_EPOCH - LIFE,
    );
    edge.forget_expired(SystemTime::UNIX_EPOCH - LIFE);
    assert_eq!(edge.revocations(), 3);
}

pub fn session_started(millis: u64) -> Uuid {
    Uuid::from_u128(u128::from(millis) << 80 | 0x7000_8000_0000_0000_00aa)
}
