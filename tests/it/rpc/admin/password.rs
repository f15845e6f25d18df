//! Help for users who cannot log in.

use auth_service::proto::{
    self, MailPurpose, PasswordChangeCause, SessionEndReason, user_event::Payload,
};

use super::ANA;
use crate::{
    harness::{
        DATA_KEY, PASSWORD, TestDatabase, assert_invalid_token, assert_wrong_password, both,
        reason, refused,
    },
    rpc::{
        accounts::kinds,
        recovery::{Mailing, NEW_PASSWORD, mailing},
    },
};

const OTHER_KEY: &str = "another-data-key-of-the-tests-32-by";
const WRONG: &str = "a wrong horse battery staple";

fn send(user_id: &str) -> proto::SendPasswordResetRequest {
    proto::SendPasswordResetRequest {
        user_id: user_id.to_owned(),
    }
}

fn invalidate(user_id: &str) -> proto::InvalidatePasswordRequest {
    proto::InvalidatePasswordRequest {
        user_id: user_id.to_owned(),
    }
}

both! {
    async fn a_reset_by_support_is_a_mail_to_the_user(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.admin().send_password_reset(send(&ana.user_id)).await.unwrap();
        let asked = mailing.requested().await.pop().unwrap();
        assert!(asked.purpose() == MailPurpose::ResetPassword);
        assert_eq!(mailing.actors().await, ["user", "admin:support"]);
        let mail = mailing.claim(&asked.request_id).await.unwrap();
        assert_eq!(mail.email, ANA);
        mailing.0.refresh(&ana.tokens.refresh_token).await.expect("nothing has changed yet");
        mailing.reset(&mail.token, NEW_PASSWORD).await.unwrap();
        mailing.log_in(ANA, NEW_PASSWORD).await.unwrap();
    }

    async fn resets_by_support_do_not_count_for_the_limits(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        for _ in 0..5 {
            mailing.admin().send_password_reset(send(&ana.user_id)).await.unwrap();
        }
        for _ in 0..3 {
            mailing.request_reset(ANA).await.unwrap();
        }
        assert_eq!(reason(&refused(mailing.request_reset(ANA).await)).1, "TOO_MANY_ATTEMPTS");
        mailing.admin().send_password_reset(send(&ana.user_id)).await.unwrap();
    }

    async fn an_invalid_password_opens_nothing_until_it_is_reset(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let before = mailing.reset_token(ANA).await;
        mailing.0.clock.advance(std::time::Duration::from_secs(1));
        mailing.admin().invalidate_password(invalidate(&ana.user_id)).await.unwrap();
        assert_wrong_password(&refused(mailing.log_in(ANA, PASSWORD).await));
        assert_invalid_token(&refused(mailing.0.refresh(&ana.tokens.refresh_token).await));
        assert_invalid_token(&refused(mailing.reset(&before, NEW_PASSWORD).await));
        assert!(mailing.user(&ana.user_id).await.password_changed_at.is_none());

        let ended = SessionEndReason::PasswordInvalidated.as_str_name();
        let expected = [
            (1, "USER_CREATED"), (2, "MAIL_REQUESTED"), (3, "PASSWORD_CHANGED"), (4, ended), (5, "MAIL_REQUESTED"),
        ];
        assert_eq!(kinds(&mailing.0.database.events().await), expected);
        assert_eq!(mailing.actors().await[2..], ["admin:support"; 3]);
        let payloads = mailing.payloads().await;
        let Payload::PasswordChanged(changed) = &payloads[2] else { panic!("no") };
        assert!(changed.cause() == PasswordChangeCause::Invalidated);

        let asked = mailing.requested().await.pop().unwrap();
        let mail = mailing.claim(&asked.request_id).await.unwrap();
        mailing.reset(&mail.token, NEW_PASSWORD).await.unwrap();
        mailing.log_in(ANA, NEW_PASSWORD).await.unwrap();
        assert!(mailing.user(&ana.user_id).await.password_changed_at.is_some());
    }

    async fn a_password_can_be_invalidated_twice_and_while_suspended(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        for _ in 0..2 {
            mailing.admin().invalidate_password(invalidate(&ana.user_id)).await.unwrap();
        }
        assert_eq!(mailing.requested().await.len(), 2);
        mailing.suspend(&ana.user_id).await;
        mailing.admin().invalidate_password(invalidate(&ana.user_id)).await.unwrap();
        assert_eq!(mailing.requested().await.len(), 2, "a suspended user gets no reset");
        mailing.restore(&ana.user_id).await;
        assert_wrong_password(&refused(mailing.log_in(ANA, PASSWORD).await));
    }

    async fn support_unlocks_an_account_that_others_have_locked(database: TestDatabase) {
        let limits = ["--throttle-free-per-account", "2", "--throttle-first-wait", "15m"];
        let mailing = mailing(database, &limits).await;
        let ana = mailing.0.sign_up(ANA).await;
        lock(&mailing, 3).await;
        unlock(&mailing, &ana.user_id).await;
        mailing.log_in(ANA, PASSWORD).await.unwrap();
        assert_eq!(mailing.actors().await.len(), 1, "no event");
    }

    async fn support_unlocks_an_account_that_has_no_attempts_left_for_the_day(database: TestDatabase) {
        let limits = ["--throttle-free-per-account", "40", "--throttle-daily-per-account", "3"];
        let mailing = mailing(database, &limits).await;
        let ana = mailing.0.sign_up(ANA).await;
        lock(&mailing, 3).await;
        unlock(&mailing, &ana.user_id).await;
        mailing.log_in(ANA, PASSWORD).await.unwrap();
    }

    async fn support_unlocks_an_account_that_was_locked_under_the_previous_data_key(database: TestDatabase) {
        let limits = ["--throttle-free-per-account", "2", "--throttle-first-wait", "15m"];
        let keys = |new, old| ["--data-key", new, "--data-previous-keys", old];
        let old = [&limits[..], &keys(DATA_KEY, OTHER_KEY)].concat();
        let old = mailing(database.clone(), &old).await;
        let ana = old.0.sign_up(ANA).await;
        lock(&old, 3).await;
        let new = [&limits[..], &keys(OTHER_KEY, DATA_KEY)].concat();
        unlock(&mailing(database, &new).await, &ana.user_id).await;
        old.log_in(ANA, PASSWORD).await.unwrap();
    }
}

/// Fails so often that even the right password is refused.
async fn lock(mailing: &Mailing, failures: usize) {
    for _ in 0..failures {
        refused(mailing.log_in(ANA, WRONG).await);
    }
    assert_eq!(
        reason(&refused(mailing.log_in(ANA, PASSWORD).await)).1,
        "TOO_MANY_ATTEMPTS"
    );
}

async fn unlock(mailing: &Mailing, user_id: &str) {
    let user_id = user_id.to_owned();
    let request = proto::UnlockUserRequest { user_id };
    mailing
        .admin()
        .unlock_user(request)
        .await
        .expect("it exists");
}
