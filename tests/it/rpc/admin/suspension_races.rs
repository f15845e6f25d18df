//! A suspension beside an act that would let the user in: afterwards nobody is in.

use auth_service::proto;

use super::{ANA, assert_suspended, suspend};
use crate::{
    harness::{
        Backend, Held, PASSWORD, START, TestDatabase, assert_invalid_token, both, refused, register,
    },
    rpc::recovery::{Mailing, NEW_PASSWORD, mailing},
};

/// Live sessions of all users.
const LIVE: &str = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";

/// Runs a login and a suspension that wait for each other on Postgres.
async fn log_in_beside_a_suspension(mailing: &Mailing) {
    let ana = mailing.0.sign_up(ANA).await;
    let mut admin = mailing.admin();
    let held = mailing.hold().await;
    let (login, suspended, ()) = tokio::join!(
        mailing.log_in(ANA, PASSWORD),
        admin.suspend_user(suspend(&ana.user_id)),
        mailing.release(held, 1),
    );
    suspended.expect("it exists");
    match login {
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
        let (mut admin, mut recovery) = (mailing.admin(), mailing.recovery());
        let held = mailing.hold().await;
        let (reset, suspended, ()) = tokio::join!(
            recovery.reset_password(request),
            admin.suspend_user(suspend(&ana.user_id)),
            mailing.release(held, 1),
        );
        suspended.expect("it exists");
        if let Err(status) = reset {
            assert_invalid_token(&status);
        }
        assert_eq!(mailing.0.database.count(LIVE).await, 0);
    }

    async fn no_refresh_beside_a_suspension_keeps_a_session(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mut admin = mailing.admin();
        let held = mailing.hold().await;
        let (refreshed, suspended, ()) = tokio::join!(
            mailing.0.refresh(&ana.tokens.refresh_token),
            admin.suspend_user(suspend(&ana.user_id)),
            mailing.release(held, 1),
        );
        suspended.expect("it exists");
        if let Ok(tokens) = refreshed {
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
