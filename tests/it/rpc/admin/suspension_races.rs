//! A suspension beside an act that would let the user in: afterwards nobody is in.

use auth_service::proto;

use super::{ANA, assert_suspended, suspend};
use crate::{
    harness::{
        Backend, Held, PASSWORD, START, TestDatabase, WAITING, assert_invalid_token, both, refused,
        register,
    },
    rpc::recovery::{Mailing, NEW_PASSWORD, mailing},
};

/// Live sessions of all users.
const LIVE: &str = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";

/// Runs an act of the user beside a suspension. On Postgres the suspension has written all but its
/// events when the act begins, and both wait for locks before the suspension commits.
async fn beside_a_suspension<T>(
    mailing: &Mailing,
    user_id: &str,
    act: impl Future<Output = T>,
) -> T {
    let mut admin = mailing.admin();
    let suspended = admin.suspend_user(suspend(user_id));
    let database = &mailing.0.database;
    let (suspended, done) = match mailing.hold().await {
        None => tokio::join!(suspended, act),
        Some(held) => {
            let second = async {
                database.wait_for(WAITING, 1).await;
                let both_wait = async {
                    database.wait_for(WAITING, 2).await;
                    held.commit().await;
                };
                tokio::join!(act, both_wait).0
            };
            tokio::join!(suspended, second)
        }
    };
    suspended.expect("it exists");
    done
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
        let database = &mailing.0.database;
        let now = database.time(START);
        let suspension = format!("UPDATE users SET suspended_at = {now}, suspension_reason = 'spam'");
        let status = match database.backend() {
            Backend::Postgres => {
                let held = Held::begin(database, &suspension).await;
                let (login, ()) = tokio::join!(mailing.log_in(ANA, PASSWORD), held.commit_when_awaited(database));
                refused(login)
            }
            // It has one connection: nothing runs between.
            Backend::Sqlite => {
                database.execute(&suspension).await;
                refused(mailing.log_in(ANA, PASSWORD).await)
            }
        };
        assert_suspended(&status);
        assert_eq!(database.count(LIVE).await, 0);
    }
}
