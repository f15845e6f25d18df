//! `ListSessions`, `EndSession` and `EndOtherSessions`.

use std::{fmt::Write as _, time::Duration};

use auth_service::{
    model::{Clock as _, Timestamp},
    proto::{self, user_event::Payload},
};

use prost::Message as _;

use super::{end_others, get_account, kinds, list_sessions};
use crate::harness::{
    START, Service, Session, TestDatabase, assert_invalid_token, both, end_session, login, refused,
    violation,
};

const HOUR: Duration = Duration::from_hours(1);
const ENDED: &str = "SESSION_END_REASON_ENDED_BY_USER";

async fn sign_in_on(service: &Service, device_name: &str) -> Session {
    let request = proto::LoginRequest {
        device_name: device_name.to_owned(),
        ..login("ana@example.com")
    };
    let answer = service.client().login(request).await.unwrap().into_inner();
    Session {
        id: answer.session_id,
        user_id: answer.user_id,
        tokens: answer.tokens.unwrap(),
    }
}

/// Inserts `count` more sessions of the user with names of the greatest length, one a second from
/// [`START`] on.
pub(in crate::rpc) async fn add_sessions(database: &TestDatabase, user_id: &str, count: i64) {
    let mut sql = String::new();
    let user_id = database.id(user_id);
    for n in 0..count {
        let started = START + Duration::from_secs(u64::try_from(n).unwrap());
        let id = database.id(&uuid::Uuid::now_v7().to_string());
        let bytes = database.bytes(uuid::Uuid::now_v7().as_bytes());
        let (start, end) = (database.time(started), database.time(started + 24 * HOUR));
        let name = "🦀".repeat(100);
        write!(
            sql,
            "INSERT INTO sessions (id, user_id, handle_hash, token_hash, generation, device_name, \
             created_at, rotated_at, expires_at, ends_at) VALUES ({id}, {user_id}, {bytes}, \
             {bytes}, 1, '{name}', {start}, {start}, {end}, {end});"
        )
        .expect("a String takes it");
    }
    database.execute(&sql).await;
}

both! {
    async fn an_account_says_who_its_caller_is(service: Service) {
        service.clock.advance(Duration::from_micros(1_000_001));
        let ana = service.sign_up("Ana@Example.COM").await;
        service.sign_up("bob@example.com").await;
        let account = get_account(service.account(&ana)).await.unwrap();
        assert_eq!(account.user_id, ana.user_id);
        assert_eq!(account.email, "ana@example.com");
        let created_at: Timestamp = START + Duration::from_micros(1_000_001);
        assert_eq!(account.created_at, Some(created_at.into()));
        assert_eq!(account.password_changed_at, Some(created_at.into()));
    }

    async fn the_live_sessions_are_listed_the_own_one_first(service: Service) {
        let first = service.sign_up("ana@example.com").await;
        service.sign_up("bob@example.com").await;
        service.clock.advance(Duration::from_micros(1));
        let phone = sign_in_on(&service, "Ana's phone 📱").await;
        service.clock.advance(HOUR / 2);
        let laptop = sign_in_on(&service, "laptop").await;
        let gone = sign_in_on(&service, "gone").await;
        service.log_out(&gone.tokens.refresh_token).await.unwrap();
        service.clock.advance(Duration::from_micros(5));
        service.refresh(&phone.tokens.refresh_token).await.unwrap();

        let listed = list_sessions(service.account(&phone)).await;
        let ids: Vec<_> = listed.iter().map(|session| &session.session_id).collect();
        assert_eq!(ids, [&phone.id, &laptop.id, &first.id], "newest first after the own one");
        let current: Vec<_> = listed.iter().map(|session| session.current).collect();
        assert_eq!(current, [true, false, false]);
        let names: Vec<_> = listed.iter().map(|session| &*session.device_name).collect();
        assert_eq!(names, ["Ana's phone 📱", "laptop", ""]);
        let now = service.clock.now();
        let at = |time: Timestamp| Some(time.into());
        let started = START + Duration::from_micros(1);
        assert_eq!(listed[0].created_at, at(started));
        assert_eq!(listed[0].last_used_at, at(now), "the last refresh");
        assert_eq!(listed[0].expires_at, at(now + 24 * HOUR));
        assert_eq!(listed[2].last_used_at, at(START));
        assert_eq!(listed[2].expires_at, at(START + 24 * HOUR));

        let listed = list_sessions(service.account(&laptop)).await;
        assert!(listed[0].session_id == laptop.id && listed[0].current);
    }

    async fn a_session_is_listed_until_it_expires(database: TestDatabase) {
        let options = ["--refresh-token-ttl", "20m", "--session-max-age", "30m"];
        let service = Service::start(database, &options).await;
        let ana = service.sign_up("ana@example.com").await;
        service.clock.advance(HOUR / 4);
        let other = service.sign_in("ana@example.com").await;
        service.refresh(&ana.tokens.refresh_token).await.unwrap();
        let listed = list_sessions(service.account(&ana)).await;
        // The absolute end comes before the sliding one.
        assert_eq!(listed[0].expires_at, Some((START + HOUR / 2).into()));
        assert_eq!(listed.len(), 2);
        service.clock.advance(HOUR / 4);
        let listed = list_sessions(service.account(&other)).await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].session_id, other.id);
    }

    async fn all_sessions_that_a_user_may_have_fit_into_the_list(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        add_sessions(&service.database, &ana.user_id, 99).await;
        let mut account = service.account(&ana);
        let answer = account.list_sessions(proto::ListSessionsRequest {}).await;
        let answer = answer.expect("it fits into a message").into_inner();
        assert!((40_000..64 * 1024).contains(&answer.encoded_len()), "{}", answer.encoded_len());
        let listed = answer.sessions;
        assert_eq!(listed.len(), 100);
        assert_eq!(listed[0].session_id, ana.id, "the own one, though it is the oldest");
        let started: Vec<_> = listed[1..].iter().map(|session| session.created_at.unwrap().seconds).collect();
        let newest = START.as_secs() + 98;
        assert_eq!(started, (newest - 98..=newest).rev().collect::<Vec<_>>());
    }

    async fn a_user_ends_a_session(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        let third = service.sign_in("ana@example.com").await;
        service.clock.advance(Duration::from_micros(7));
        let mut account = service.account(&ana);
        account.end_session(end_session(&other.id.to_uppercase())).await.unwrap();

        assert_invalid_token(&refused(service.refresh(&other.tokens.refresh_token).await));
        assert_invalid_token(&refused(get_account(service.account(&other)).await));
        service.refresh(&third.tokens.refresh_token).await.expect("it goes on");
        let event = service.database.events().await.pop().unwrap();
        assert_eq!(event.user_id, ana.user_id);
        assert_eq!(event.occurred_at, Some(service.clock.now().into()));
        let Some(Payload::SessionEnded(ended)) = event.payload else { panic!("another event") };
        assert!(ended.session_id == other.id && ended.reason().as_str_name() == ENDED);
        let expire_at = service.clock.now() + HOUR;
        assert_eq!(ended.access_tokens_expire_at, Some(expire_at.into()));
        let reasons = "SELECT revoke_reason FROM sessions WHERE revoke_reason IS NOT NULL";
        assert_eq!(service.database.text(reasons).await.as_deref(), Some("ended_by_user"));

        // A second call changes nothing.
        account.end_session(end_session(&other.id)).await.unwrap();
        assert_eq!(service.database.ended_sessions().await.len(), 1);
        // The session of the caller.
        account.end_session(end_session(&ana.id)).await.unwrap();
        assert_invalid_token(&refused(account.end_session(end_session(&ana.id)).await));
        refused(service.refresh(&ana.tokens.refresh_token).await);
    }

    async fn another_users_session_is_like_an_unknown_one(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let bob = service.sign_up("bob@example.com").await;
        let rows = service.database.dump("sessions").await;
        let users = service.database.dump("users").await;
        let unknown = uuid::Uuid::now_v7().to_string();
        for id in [&bob.id, &unknown, &ana.user_id] {
            service.account(&ana).end_session(end_session(id)).await.expect("OK");
        }
        assert_eq!(service.database.dump("sessions").await, rows);
        assert_eq!(service.database.dump("users").await, users);
        assert!(service.database.ended_sessions().await.is_empty());
        service.refresh(&bob.tokens.refresh_token).await.expect("it lives");
    }

    async fn a_malformed_session_id_is_an_invalid_argument(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let mut account = service.account(&ana);
        let braced = format!("{{{}}}", ana.id);
        for id in ["", "junk", &ana.id[1..], &ana.id.replace('-', ""), &braced] {
            let status = refused(account.end_session(end_session(id)).await);
            let (field, problem) = violation(&status);
            assert_eq!(field, "session_id", "{id:?}");
            let expected = if id.is_empty() { "must not be empty" } else { "must be a UUID" };
            assert_eq!(problem, expected);
        }
    }

    async fn a_user_ends_all_other_sessions(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let bob = service.sign_up("bob@example.com").await;
        // The ids of sessions are in the order of whole milliseconds.
        service.clock.advance(Duration::from_millis(1));
        let expired = service.sign_in("ana@example.com").await;
        service.clock.advance(23 * HOUR);
        service.refresh(&ana.tokens.refresh_token).await.unwrap();
        service.refresh(&bob.tokens.refresh_token).await.unwrap();
        service.clock.advance(HOUR);
        let own = service.sign_in("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        let gone = service.sign_in("ana@example.com").await;
        service.log_out(&gone.tokens.refresh_token).await.unwrap();
        let before = service.database.events().await.len();

        assert_eq!(end_others(service.account(&own)).await.unwrap(), 3);
        let events = service.database.events().await.split_off(before);
        assert_eq!(kinds(&events), [(3, ENDED), (4, ENDED), (5, ENDED)]);
        let mut ended: Vec<_> = service.database.ended_sessions().await;
        ended.remove(0);
        // The clock may be wrong about the one that has expired.
        let expected = [&ana, &expired, &other].map(|session| (session.id.clone(), ENDED));
        assert_eq!(ended, expected, "the oldest first");
        let first = &events[0];
        let Some(Payload::SessionEnded(ended)) = &first.payload else { panic!("another event") };
        assert_eq!(ended.access_tokens_expire_at, Some((service.clock.now() + HOUR).into()));
        for session in [&ana, &other] {
            refused(service.refresh(&session.tokens.refresh_token).await);
        }
        assert_eq!(list_sessions(service.account(&own)).await.len(), 1);
        service.refresh(&own.tokens.refresh_token).await.expect("it goes on");

        // Without other sessions there is no event, and no gap in the versions.
        assert_eq!(end_others(service.account(&own)).await.unwrap(), 0);
        service.log_out(&own.tokens.refresh_token).await.unwrap();
        let last = service.database.events().await.pop().unwrap();
        assert_eq!(last.user_version, 6);
    }

    async fn thousands_of_sessions_end_at_once(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        add_sessions(&service.database, &ana.user_id, 2500).await;
        assert_eq!(end_others(service.account(&ana)).await.unwrap(), 2500);
        let events = service.database.events().await;
        let versions: Vec<_> = events.iter().map(|event| event.user_version).collect();
        assert_eq!(versions, (1..=2501).collect::<Vec<_>>());
        let versions = "SELECT event_version FROM users";
        assert_eq!(service.database.count(versions).await, 2501);
        let mut ids: Vec<_> = events.iter().map(|event| &event.event_id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 2501);
        let live = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
        assert_eq!(service.database.count(live).await, 1);
    }

    async fn of_more_than_a_hundred_sessions_a_login_ends_the_oldest(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        add_sessions(&service.database, &ana.user_id, 99).await;
        let live = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
        assert_eq!(service.database.count(live).await, 100);
        service.clock.advance(HOUR / 60);
        let next = service.sign_in("ana@example.com").await;
        assert_eq!(service.database.count(live).await, 100);
        let mut events = service.database.events().await;
        assert_eq!(events.len(), 2);
        let Some(Payload::SessionEnded(ended)) = events.pop().unwrap().payload else { panic!("another event") };
        assert!(ended.reason() == proto::SessionEndReason::TooMany);
        assert_ne!(ended.session_id, next.id);
        let reasons = "SELECT revoke_reason FROM sessions WHERE revoke_reason IS NOT NULL";
        assert_eq!(service.database.text(reasons).await.as_deref(), Some("too_many"));
        service.refresh(&next.tokens.refresh_token).await.expect("the new one lives");
    }

    async fn a_login_by_a_clock_that_is_behind_does_not_end_its_own_session(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        add_sessions(&service.database, &ana.user_id, 99).await;
        service.clock.set(START - HOUR);
        let next = service.sign_in("ana@example.com").await;
        let ended = service.database.ended_sessions().await;
        assert_eq!(ended.len(), 1);
        assert_ne!(ended[0].0, next.id);
        service.refresh(&next.tokens.refresh_token).await.expect("it lives");
    }

    async fn the_event_names_the_last_refresh_however_late_it_was(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        // Such a time comes from a replica whose clock is ahead.
        service.clock.advance(HOUR / 2);
        service.refresh(&other.tokens.refresh_token).await.unwrap();
        service.clock.set(START);
        end_others(service.account(&ana)).await.unwrap();
        let event = service.database.events().await.pop().unwrap();
        let Some(Payload::SessionEnded(ended)) = event.payload else { panic!("another event") };
        // A retry could have come until the end of its window.
        let window = Duration::from_secs(30);
        assert_eq!(ended.access_tokens_expire_at, Some((START + HOUR / 2 + HOUR + window).into()));
    }
}
