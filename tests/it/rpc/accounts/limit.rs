//! A user has at most 100 sessions, also after logins that ran at once.

use std::{sync::Arc, time::Duration};

use auth_service::{
    db::{Db, NewSession},
    model::{Act, Event, Payload, SessionEnd, SessionEndReason, SessionId, Timestamp, UserId},
};
use futures::future::join_all;
use tokio::sync::Barrier;

use super::{kinds, list_sessions, sessions::add_sessions};
use crate::harness::{Backend, Held, START, Service, TestDatabase, WAITING, both, db};

const LIVE: &str = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
const HOUR: Duration = Duration::from_hours(1);

/// Starts that wait for the user's row on Postgres at the same time, and a connection for each.
const STARTS: u8 = 10;

fn session(user_id: UserId, number: u8, now: Timestamp) -> NewSession {
    NewSession {
        id: SessionId::new(now),
        user_id,
        handle_hash: [number; 32],
        token_hash: [number; 32],
        device_name: None,
        created_at: now,
        expires_at: now + HOUR,
        ends_at: now + HOUR,
        access_tokens_expire_at: now + HOUR,
        event: None,
    }
}

fn too_many(now: Timestamp) -> (SessionEnd, Act) {
    let end = SessionEnd {
        reason: SessionEndReason::TooMany,
        access_token_ttl: HOUR,
    };
    let act = Act {
        now,
        traceparent: None,
        administrator: None,
    };
    (end, act)
}

/// The last step of a login whose password was right.
async fn start_session(db: &Db, user_id: UserId, number: u8) {
    let now = START + Duration::from_mins(30);
    let (end, act) = too_many(now);
    let session = session(user_id, number, now);
    let started = db.start_session(&session, START, end, &act);
    let started = started.await.expect("the database answers");
    started.expect("the password is still the same");
}

both! {
    async fn logins_at_once_leave_at_most_a_hundred_sessions(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        add_sessions(&service.database, &ana.user_id, 94).await;
        let db = db(&service.database, Duration::from_secs(30));
        let barrier = Arc::new(Barrier::new(usize::from(STARTS) + 1));
        let held = match service.database.backend() {
            Backend::Postgres => {
                let lock = "UPDATE users SET event_version = event_version";
                Some(Held::begin(&service.database, lock).await)
            }
            Backend::Sqlite => None,
        };
        let starts = (0..STARTS).map(|number| {
            let (db, barrier) = (db.clone(), Arc::clone(&barrier));
            let user_id = UserId::parse(&ana.user_id).expect("an id");
            tokio::spawn(async move {
                barrier.wait().await;
                start_session(&db, user_id, number).await;
            })
        });
        let starts: Vec<_> = starts.collect();
        barrier.wait().await;
        if let Some(held) = held {
            service.database.wait_for(WAITING, STARTS.into()).await;
            held.commit().await;
        }
        for started in join_all(starts).await {
            started.expect("it starts");
        }
        assert_eq!(service.database.count(LIVE).await, 100);
        assert_eq!(service.database.ended_sessions().await.len(), 5);

        service.clock.advance(HOUR);
        let last = service.sign_in("ana@example.com").await;
        assert_eq!(service.database.count(LIVE).await, 100);
        let listed = list_sessions(service.account(&last)).await;
        assert_eq!(listed.len(), 100, "each live session is listed");
    }

    async fn the_start_of_a_session_comes_before_the_ends_that_it_causes(database: TestDatabase) {
        let service = Service::start(database, &["--event-sessions", "true"]).await;
        let ana = service.sign_up("ana@example.com").await;
        add_sessions(&service.database, &ana.user_id, 101).await;
        service.clock.advance(HOUR);
        service.sign_in("ana@example.com").await;
        let (started, ended) = ("SESSION_STARTED", "SESSION_END_REASON_TOO_MANY");
        let expected = ["USER_CREATED", started, started, ended, ended, ended];
        let expected: Vec<_> = (1..).zip(expected).collect();
        assert_eq!(kinds(&service.database.events().await), expected);
    }

    async fn a_login_with_the_password_of_before_has_no_event(database: TestDatabase) {
        let service = Service::start(database, &["--event-sessions", "true"]).await;
        let ana = service.sign_up("ana@example.com").await;
        let (db, user_id) = (db(&service.database, HOUR), UserId::parse(&ana.user_id).unwrap());
        let now = START + HOUR;
        let payload = Payload::UserDeleted;
        let (end, act) = too_many(now);
        let session = NewSession { event: Some(Event::new(user_id, payload, &act)), ..session(user_id, 1, now) };
        let started = db.start_session(&session, START - HOUR, end, &act).await.unwrap();
        assert_eq!(started, None);
        assert_eq!(service.database.events().await.len(), 2);
        assert_eq!(service.database.count(LIVE).await, 1);
    }

    async fn a_login_of_a_user_with_far_too_many_sessions_leaves_a_hundred(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        add_sessions(&service.database, &ana.user_id, 350).await;
        service.clock.advance(HOUR);
        let last = service.sign_in("ana@example.com").await;
        assert_eq!(service.database.count(LIVE).await, 100);
        assert_eq!(service.database.ended_sessions().await.len(), 252);
        assert_eq!(list_sessions(service.account(&last)).await.len(), 100);
    }
}
