//! Replicas whose clocks or configurations differ. A clock that is ahead or behind must do no
//! harm that lasts.

mod tokens;

use std::{sync::Arc, time::Duration};

use auth_service::{
    app::SystemClock,
    model::{Clock as _, Timestamp},
    proto,
};

use crate::harness::{
    ManualClock, PASSWORD, START, Service, Session, TestDatabase, assert_invalid_token, both,
    change_password, delete_account, end_session, refused,
};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
const MICROSECOND: Duration = Duration::from_micros(1);
const MONTH: Duration = Duration::from_hours(30 * 24);
const NEW_PASSWORD: &str = "quiet meadow brass lantern";

/// Acts that end sessions of a user.
#[derive(Clone, Copy, Debug)]
enum Act {
    Logout,
    EndSession,
    EndOtherSessions,
    ChangePassword,
    DeleteAccount,
}

const ALL: [Act; 5] = [
    Act::Logout,
    Act::EndSession,
    Act::EndOtherSessions,
    Act::ChangePassword,
    Act::DeleteAccount,
];

impl Act {
    /// Ends the session `other`, signed in with the session `own` if the act needs that.
    async fn end(self, service: &Service, own: &Session, other: &Session) {
        let mut account = service.account(own);
        let done = match self {
            Self::Logout => service.log_out(&other.tokens.refresh_token).await,
            Self::EndSession => account.end_session(end_session(&other.id)).await.map(drop),
            Self::EndOtherSessions => {
                let request = proto::EndOtherSessionsRequest {};
                account.end_other_sessions(request).await.map(drop)
            }
            Self::ChangePassword => {
                let request = change_password(NEW_PASSWORD);
                account.change_password(request).await.map(drop)
            }
            Self::DeleteAccount => {
                let request = delete_account(PASSWORD);
                account.delete_account(request).await.map(drop)
            }
        };
        done.unwrap_or_else(|status| panic!("{self:?}: {status}"));
    }
}

async fn replica(service: &Service, now: Timestamp, options: &[&str]) -> Service {
    let clock = Arc::new(ManualClock::new(now));
    Service::start_at(service.database.clone(), clock, options).await
}

both! {
    async fn a_clock_that_is_ahead_ends_what_it_is_told_to_end(database: TestDatabase) {
        // The database's clock is right.
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let service = Service::start_at(database, clock, &[]).await;
        let ahead = replica(&service, service.clock.now() + MONTH, &[]).await;
        for (n, act) in ALL.into_iter().enumerate() {
            let email = format!("user{n}@example.com");
            let lost = service.sign_up(&email).await;
            let own = ahead.sign_in(&email).await;
            act.end(&ahead, &own, &lost).await;
            let refused = refused(service.refresh(&lost.tokens.refresh_token).await);
            assert_invalid_token(&refused);
            let ended = service.database.ended_sessions().await;
            assert!(ended.iter().any(|(id, _)| *id == lost.id), "{act:?}: {ended:?}");
        }
    }

    async fn a_session_that_only_looks_expired_ends_with_the_others(service: Service) {
        let ahead = replica(&service, START + MONTH, &[]).await;
        for (n, act) in ALL[2..].iter().enumerate() {
            let email = format!("user{n}@example.com");
            let lost = [service.sign_up(&email).await, service.sign_in(&email).await];
            let own = ahead.sign_in(&email).await;
            act.end(&ahead, &own, &lost[0]).await;
            let ended = service.database.ended_sessions().await;
            for session in &lost {
                let token = &session.tokens.refresh_token;
                assert_invalid_token(&refused(service.refresh(token).await));
                assert!(ended.iter().any(|(id, _)| *id == session.id), "{act:?}: {ended:?}");
            }
        }
    }

    async fn a_rotation_by_a_clock_an_hour_ahead_leaves_no_window_open(service: Service) {
        for ahead in [MINUTE + MICROSECOND, HOUR, MONTH / 2] {
            let session = service.sign_up(&format!("{}@example.com", ahead.as_secs())).await;
            let token = &session.tokens.refresh_token;
            let replica = replica(&service, START + ahead, &["--refresh-token-ttl", "20d"]).await;
            if ahead > 23 * HOUR {
                let far = service.database.time(START + 2 * MONTH);
                let keep = format!("UPDATE sessions SET expires_at = {far}");
                service.database.execute(&keep).await;
            }
            replica.refresh(token).await.expect("it is current");
            assert_invalid_token(&refused(service.refresh(token).await));
            let reasons = "SELECT count(*) FROM sessions WHERE revoke_reason = 'reuse'";
            assert_eq!(service.database.count(reasons).await, 1, "{ahead:?}");
            service.database.execute("DELETE FROM sessions").await;
        }
    }

    async fn a_rotation_by_a_clock_a_minute_ahead_can_be_retried(service: Service) {
        let session = service.sign_up("ana@example.com").await;
        let token = &session.tokens.refresh_token;
        let replica = replica(&service, START + MINUTE, &[]).await;
        let next = replica.refresh(token).await.expect("it is current");
        let again = service.refresh(token).await.expect("a retry");
        assert_eq!(again.refresh_token, next.refresh_token);
    }
}
