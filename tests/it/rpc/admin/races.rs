//! An act of an administrator beside one that would let the user in: afterwards nobody is in.

use auth_service::proto;
use tonic::{Code, Status};

use super::{ANA, assert_suspended, suspend};
use crate::{
    harness::{
        Backend, Held, PASSWORD, START, TestDatabase, WAITING, assert_invalid_token,
        assert_wrong_password, both, change_password, delete_account, refused, register,
    },
    rpc::recovery::{Mailing, NEW_PASSWORD, mailing},
};

/// Live sessions of all users.
const LIVE: &str = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";

/// Runs an act of the user beside one of an administrator. On Postgres the administrator's has
/// written all but its events when the user's begins, and both wait for locks before it commits.
async fn beside<A, T>(
    mailing: &Mailing,
    by_admin: impl Future<Output = Result<A, Status>>,
    act: impl Future<Output = T>,
) -> T {
    let database = &mailing.0.database;
    let (by_admin, done) = match mailing.hold().await {
        None => tokio::join!(by_admin, act),
        Some(held) => {
            let second = async {
                database.wait_for(WAITING, 1).await;
                let both_wait = async {
                    database.wait_for(WAITING, 2).await;
                    held.commit().await;
                };
                tokio::join!(act, both_wait).0
            };
            tokio::join!(by_admin, second)
        }
    };
    by_admin.map(drop).expect("it exists");
    done
}

async fn beside_a_suspension<T>(
    mailing: &Mailing,
    user_id: &str,
    act: impl Future<Output = T>,
) -> T {
    let mut admin = mailing.admin();
    beside(mailing, admin.suspend_user(suspend(user_id)), act).await
}

/// A login beside an act that takes the account away from its user.
async fn log_in_beside<A>(mailing: &Mailing, by_admin: impl Future<Output = Result<A, Status>>) {
    match beside(mailing, by_admin, mailing.log_in(ANA, PASSWORD)).await {
        // On SQLite it may come first.
        Ok(login) => {
            let tokens = login.tokens.expect("a login has tokens");
            assert_invalid_token(&refused(mailing.0.refresh(&tokens.refresh_token).await));
        }
        Err(status) => assert_wrong_password(&status),
    }
}

async fn log_in_beside_a_suspension(mailing: &Mailing) {
    let ana = mailing.0.sign_up(ANA).await;
    let login = mailing.log_in(ANA, PASSWORD);
    match beside_a_suspension(mailing, &ana.user_id, login).await {
        // On SQLite it may come first.
        Ok(login) => {
            let tokens = login.tokens.expect("a login has tokens");
            assert_invalid_token(&refused(mailing.0.refresh(&tokens.refresh_token).await));
        }
        Err(status) => assert_suspended(&status),
    }
    assert_eq!(mailing.0.database.count(LIVE).await, 0);
}

both! {
    async fn no_session_that_starts_beside_a_suspension_survives(mailing: Mailing) {
        log_in_beside_a_suspension(&mailing).await;
    }

    async fn no_session_that_starts_beside_a_deletion_survives(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let request = proto::DeleteUserRequest { user_id: ana.user_id };
        let mut admin = mailing.admin();
        log_in_beside(&mailing, admin.delete_user(request)).await;
        assert_eq!(mailing.0.database.count("SELECT count(*) FROM sessions").await, 0);
    }

    async fn no_session_that_starts_beside_an_invalidation_survives(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let request = proto::InvalidatePasswordRequest { user_id: ana.user_id };
        let mut admin = mailing.admin();
        log_in_beside(&mailing, admin.invalidate_password(request)).await;
        assert_eq!(mailing.0.database.count(LIVE).await, 0);
    }

    async fn no_session_with_an_event_that_starts_beside_a_suspension_survives(database: TestDatabase) {
        let mailing = mailing(database, &["--event-sessions", "true"]).await;
        log_in_beside_a_suspension(&mailing).await;
    }

    async fn no_reset_beside_a_suspension_lets_the_user_in(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let request = proto::ResetPasswordRequest {
            reset_token: mailing.reset_token(ANA).await,
            new_password: NEW_PASSWORD.to_owned(),
            start_session: true,
            ..Default::default()
        };
        let mut recovery = mailing.recovery();
        let reset = recovery.reset_password(request);
        if let Err(status) = beside_a_suspension(&mailing, &ana.user_id, reset).await {
            assert_invalid_token(&status);
        }
        assert_eq!(mailing.0.database.count(LIVE).await, 0);
    }

    async fn no_refresh_beside_a_suspension_keeps_a_session(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let refresh = mailing.0.refresh(&ana.tokens.refresh_token);
        if let Ok(tokens) = beside_a_suspension(&mailing, &ana.user_id, refresh).await {
            assert_invalid_token(&refused(mailing.0.refresh(&tokens.refresh_token).await));
        }
        assert_invalid_token(&refused(mailing.0.refresh(&ana.tokens.refresh_token).await));
        assert_eq!(mailing.0.database.count(LIVE).await, 0);
    }

    /// The login has read the account and waits for its row.
    async fn a_suspension_during_the_hash_is_told_to_who_had_the_right_password(mailing: Mailing) {
        mailing.0.client().register(register(ANA)).await.unwrap();
        let login = mailing.log_in(ANA, PASSWORD);
        assert_suspended(&refused(during_a_suspension(&mailing.0.database, login).await));
        assert_eq!(mailing.0.database.count(LIVE).await, 0);
    }

    async fn a_signed_in_user_does_nothing_after_a_suspension_during_the_hash(mailing: Mailing) {
        for act in ["ChangePassword", "ChangeEmail", "DeleteAccount"] {
            let ana = mailing.0.sign_up(&format!("{act}@example.com")).await;
            let mut account = mailing.0.account(&ana);
            let act = async {
                match act {
                    "ChangePassword" => {
                        account.change_password(change_password(NEW_PASSWORD)).await.map(drop)
                    }
                    "ChangeEmail" => {
                        account.change_email(change_email("new@example.com")).await.map(drop)
                    }
                    _ => account.delete_account(delete_account(PASSWORD)).await.map(drop),
                }
            };
            let done = beside(&mailing, suspend_if_it_exists(&mailing, &ana.user_id), act).await;
            // On SQLite it may come first.
            if mailing.0.database.backend() == Backend::Postgres {
                assert_invalid_token(&refused(done));
            }
            assert_eq!(mailing.0.database.count(LIVE).await, 0);
        }
    }
}

async fn suspend_if_it_exists(mailing: &Mailing, user_id: &str) -> Result<(), Status> {
    let suspended = mailing.admin().suspend_user(suspend(user_id)).await;
    suspended.map(drop).or_else(|status| match status.code() {
        Code::NotFound => Ok(()),
        _ => Err(status),
    })
}

fn change_email(new_email: &str) -> proto::ChangeEmailRequest {
    proto::ChangeEmailRequest {
        current_password: PASSWORD.to_owned(),
        new_email: new_email.to_owned(),
        locale: String::new(),
    }
}

/// A suspension is committed when the act waits for the row of the only user. On SQLite, which has
/// one connection, it is committed before.
async fn during_a_suspension<T>(database: &TestDatabase, act: impl Future<Output = T>) -> T {
    let now = database.time(START);
    let suspension = format!("UPDATE users SET suspended_at = {now}, suspension_reason = 'spam'");
    match database.backend() {
        Backend::Postgres => {
            let held = Held::begin(database, &suspension).await;
            tokio::join!(act, held.commit_when_awaited(database)).0
        }
        Backend::Sqlite => {
            database.execute(&suspension).await;
            act.await
        }
    }
}
