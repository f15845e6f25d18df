//! A user has at most 100 sessions, also after logins that ran at once.

use std::{sync::Arc, time::Duration};

use auth_service::{
    db::{Db, NewSession},
    model::{Act, SessionEnd, SessionEndReason, SessionId, UserId},
};
use futures::future::join_all;
use tokio::sync::Barrier;

use super::{list_sessions, sessions::add_sessions};
use crate::harness::{Backend, Held, START, Service, WAITING, both, db};

const LIVE: &str = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
const HOUR: Duration = Duration::from_hours(1);

/// Starts that wait for the user's row on Postgres at the same time, and a connection for each.
const STARTS: u8 = 10;

/// The last step of a login whose password was right.
async fn start_session(db: &Db, user_id: UserId, number: u8) {
    let now = START + Duration::from_mins(30);
    let session = NewSession {
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
    };
    let end = SessionEnd {
        reason: SessionEndReason::TooMany,
        access_token_ttl: HOUR,
    };
    let act = Act {
        now,
        traceparent: None,
    };
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
