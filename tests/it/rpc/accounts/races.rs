//! Calls of one user at once: they take effect in some order, and no session survives the new
//! password or the deletion that should have ended it.

use std::{collections::BTreeSet, sync::Arc};

use auth_service::proto::{self, user_event::Payload};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::{Code, Status};

use super::{NEW_PASSWORD, end_others, get_account, list_sessions};
use crate::harness::{
    Backend, Held, PASSWORD, Service, Session, TestDatabase, assert_invalid_token,
    assert_wrong_password, both, change_password, delete_account, end_session, login, logout,
    reason, refresh, refused, soak,
};

/// Calls that start together.
struct Together {
    barrier: Arc<Barrier>,
    calls: JoinSet<(String, Result<(), Status>)>,
}

impl Together {
    fn new(calls: usize) -> Self {
        Self {
            barrier: Arc::new(Barrier::new(calls)),
            calls: JoinSet::new(),
        }
    }

    fn add(&mut self, what: &str, call: impl Future<Output = Result<(), Status>> + Send + 'static) {
        let (barrier, what) = (Arc::clone(&self.barrier), what.to_owned());
        self.calls.spawn(async move {
            barrier.wait().await;
            (what, call.await)
        });
    }

    async fn answers(self) -> Vec<(String, Result<(), Status>)> {
        self.calls.join_all().await
    }
}

fn change(
    service: &Service,
    session: &Session,
    new: &str,
) -> impl Future<Output = Result<(), Status>> + use<> {
    let (mut account, request) = (service.account(session), change_password(new));
    async move { account.change_password(request).await.map(drop) }
}

/// The versions of each user's events have no gap, and no session ended twice.
async fn assert_events_are_in_order(database: &TestDatabase) {
    let events = database.events().await;
    let mut ended = BTreeSet::new();
    for (number, event) in (1..).zip(&events) {
        assert_eq!(event.user_version, number);
        if let Some(Payload::SessionEnded(session)) = &event.payload {
            assert!(ended.insert(&session.session_id), "ended twice");
        }
    }
    let revoked = "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL";
    let revoked = database.count(revoked).await;
    assert_eq!(usize::try_from(revoked).unwrap(), ended.len());
    let version = database.count("SELECT event_version FROM users").await;
    assert_eq!(usize::try_from(version).unwrap(), events.len());
}

both! {
    async fn of_concurrent_changes_one_wins(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let passwords: Vec<_> = (0..6).map(|n| format!("{NEW_PASSWORD} {n}")).collect();
        let mut together = Together::new(passwords.len());
        for password in &passwords {
            together.add(password, change(&service, &ana, password));
        }
        let (won, lost): (Vec<_>, Vec<_>) =
            together.answers().await.into_iter().partition(|(_, answer)| answer.is_ok());
        assert_eq!((won.len(), lost.len()), (1, 5));
        for (_, answer) in lost {
            assert_wrong_password(&refused(answer));
        }
        for password in &passwords {
            let request = proto::LoginRequest {
                password: password.clone(),
                ..login("ana@example.com")
            };
            let works = service.client().login(request).await.is_ok();
            assert_eq!(works, *password == won[0].0);
        }
        assert_events_are_in_order(&service.database).await;
        assert_eq!(service.database.events().await.len(), 2);
    }

    async fn changes_from_two_sessions_leave_one_password_and_one_session(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let other = service.sign_in("ana@example.com").await;
        let mut together = Together::new(2);
        together.add("ana", change(&service, &ana, NEW_PASSWORD));
        together.add("other", change(&service, &other, &format!("{NEW_PASSWORD} 2")));
        let (won, lost): (Vec<_>, Vec<_>) =
            together.answers().await.into_iter().partition(|(_, answer)| answer.is_ok());
        assert_eq!((won.len(), lost.len()), (1, 1));
        let (_, status) = reason(&refused(lost.into_iter().next().unwrap().1));
        assert!(["INVALID_CREDENTIALS", "INVALID_TOKEN"].contains(&&*status), "{status}");
        let (winner, loser) = if won[0].0 == "ana" { (ana, other) } else { (other, ana) };
        assert_eq!(list_sessions(service.account(&winner)).await.len(), 1);
        assert_invalid_token(&refused(get_account(service.account(&loser)).await));
        assert_events_are_in_order(&service.database).await;
    }

    async fn no_login_with_the_old_password_outlives_its_end(database: TestDatabase) {
        // These logins also upgrade the hash to another cost.
        let service = Service::start(database, &[]).await;
        let ana = service.sign_up("ana@example.com").await;
        let (_, database) = service.stop().await;
        let service = Service::start(database, &["--bcrypt-cost", "11"]).await;
        let mut together = Together::new(9);
        for _ in 0..8 {
            let mut client = service.client();
            together.add("login", async move {
                client.login(login("ana@example.com")).await.map(drop)
            });
        }
        together.add("change", change(&service, &ana, NEW_PASSWORD));
        for (what, answer) in together.answers().await {
            match answer {
                Ok(()) => {}
                Err(status) if what == "login" => assert_wrong_password(&status),
                Err(status) => panic!("{what}: {status}"),
            }
        }
        let listed = list_sessions(service.account(&ana)).await;
        assert_eq!(listed.len(), 1, "the logins' sessions have ended");
        assert_wrong_password(&refused(service.client().login(login("ana@example.com")).await));
        let request = proto::LoginRequest {
            password: NEW_PASSWORD.to_owned(),
            ..login("ana@example.com")
        };
        service.client().login(request).await.expect("no upgrade brought the old hash back");
        assert_events_are_in_order(&service.database).await;
    }

    async fn no_login_outlives_the_account(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let mut together = Together::new(7);
        for _ in 0..6 {
            let mut client = service.client();
            together.add("login", async move {
                client.login(login("ana@example.com")).await.map(drop)
            });
        }
        let mut account = service.account(&ana);
        together.add("delete", async move {
            account.delete_account(delete_account(PASSWORD)).await.map(drop)
        });
        for (what, answer) in together.answers().await {
            match answer {
                Ok(()) => {}
                Err(status) if what == "login" => assert_wrong_password(&status),
                Err(status) => panic!("{what}: {status}"),
            }
        }
        for table in ["users", "sessions"] {
            assert!(service.database.dump(table).await.is_empty(), "{table}");
        }
    }

    async fn of_concurrent_deletions_one_wins(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let mut together = Together::new(4);
        for _ in 0..4 {
            let mut account = service.account(&ana);
            together.add("delete", async move {
                account.delete_account(delete_account(PASSWORD)).await.map(drop)
            });
        }
        let answers = together.answers().await.into_iter().map(|(_, answer)| answer);
        let (won, lost): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 3));
        for answer in lost {
            let (code, _) = reason(&refused(answer));
            assert_eq!(code, Code::Unauthenticated);
        }
        // The creation, the end of the session, the deletion.
        assert_eq!(service.database.events().await.len(), 3);
    }

    async fn calls_at_once_take_effect_in_one_order(database: TestDatabase) {
        let service = Service::start(database, &["--refresh-retry-window", "0s"]).await;
        let ana = service.sign_up("ana@example.com").await;
        let rounds = soak(4, 60);
        let mut password = PASSWORD.to_owned();
        let mut own = ana;
        for round in 0..rounds {
            own = storm(&service, own, &mut password, round).await;
            assert_events_are_in_order(&service.database).await;
        }
    }
}

/// All calls at once on the sessions of one user. Returns a session that lives.
async fn storm(service: &Service, own: Session, password: &mut String, round: usize) -> Session {
    let with_password = |password: &str| proto::LoginRequest {
        password: password.to_owned(),
        ..login("ana@example.com")
    };
    let mut sessions = Vec::new();
    for _ in 0..6 {
        let answer = service.client().login(with_password(password)).await;
        let answer = answer.expect("the password is right").into_inner();
        sessions.push(Session {
            id: answer.session_id,
            user_id: answer.user_id,
            tokens: answer.tokens.unwrap(),
        });
    }
    let new = format!("{NEW_PASSWORD} {round}");
    let mut together = Together::new(1 + 4 * sessions.len());
    let mut account = service.account(&own);
    let request = proto::ChangePasswordRequest {
        current_password: password.clone(),
        new_password: new.clone(),
    };
    together.add("change", async move {
        account.change_password(request).await.map(drop)
    });
    for (n, session) in sessions.iter().enumerate() {
        let token = session.tokens.refresh_token.clone();
        // Two refreshes with one token: the second is reuse, unless the session has ended.
        for _ in 0..2 {
            let (mut client, token) = (service.client(), token.clone());
            together.add("refresh", async move {
                client.refresh(refresh(&token)).await.map(drop)
            });
        }
        let mut client = service.client();
        together.add("logout", async move {
            client.logout(logout(&token)).await.map(drop)
        });
        let mut account = service.account(session);
        if n % 2 == 0 {
            let other = sessions[(n + 1) % sessions.len()].id.clone();
            together.add("end", async move {
                account.end_session(end_session(&other)).await.map(drop)
            });
        } else {
            together.add(
                "end others",
                async move { end_others(account).await.map(drop) },
            );
        }
    }
    let mut changed = false;
    for (what, answer) in together.answers().await {
        match answer {
            Ok(()) => changed |= what == "change",
            Err(status) => assert_invalid_token(&status),
        }
    }
    if changed {
        *password = new;
        let listed = list_sessions(service.account(&own)).await;
        assert!(
            listed.iter().all(|session| session.current),
            "only the own one is left"
        );
    }
    let answer = service.client().login(with_password(password)).await;
    let answer = answer.expect("the password is right").into_inner();
    Session {
        id: answer.session_id,
        user_id: answer.user_id,
        tokens: answer.tokens.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_verified_before_a_change_starts_no_session_after_it() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let service = Service::start(database, &[]).await;
    service.sign_up("ana@example.com").await;
    for statements in [
        // The statements of ChangePassword and of DeleteAccount.
        "UPDATE users SET password_changed_at = password_changed_at + interval '1 microsecond'",
        "DELETE FROM users",
    ] {
        let held = Held::begin(&service.database, statements).await;
        let mut client = service.client();
        let (answer, ()) = tokio::join!(
            client.login(login("ana@example.com")),
            held.commit_when_awaited(&service.database)
        );
        assert_wrong_password(&refused(answer));
        let others = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
        let expected = i64::from(!statements.starts_with("DELETE"));
        assert_eq!(
            service.database.count(others).await,
            expected,
            "{statements}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_while_its_call_hashed_changes_nothing() {
    let Some(database) = TestDatabase::create(Backend::Postgres).await else {
        return;
    };
    let service = Service::start(database, &[]).await;
    let ana = service.sign_up("ana@example.com").await;
    let other = service.sign_in("ana@example.com").await;
    let live = "UPDATE users SET event_version = event_version; \
                UPDATE sessions SET revoked_at = NULL, revoke_reason = NULL";
    for call in ["change", "delete", "end others"] {
        service.database.execute(live).await;
        let users = service.database.dump("users").await;
        let id = service.database.id(&ana.id);
        let end = format!(
            "UPDATE users SET event_version = event_version; \
             UPDATE sessions SET revoked_at = now(), revoke_reason = 'logout' WHERE id = {id}"
        );
        let held = Held::begin(&service.database, &end).await;
        let mut account = service.account(&ana);
        let answer = async {
            match call {
                "change" => change(&service, &ana, NEW_PASSWORD).await,
                "delete" => account
                    .delete_account(delete_account(PASSWORD))
                    .await
                    .map(drop),
                _ => end_others(account).await.map(drop),
            }
        };
        let (answer, ()) = tokio::join!(answer, held.commit_when_awaited(&service.database));
        assert_invalid_token(&refused(answer));
        assert_eq!(service.database.dump("users").await, users, "{call}");
        get_account(service.account(&other))
            .await
            .expect("it lives");
    }
    assert_eq!(service.database.events().await.len(), 1);
}
