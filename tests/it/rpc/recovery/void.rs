//! Acts that make the mails before them void.

use std::time::Duration;

use super::{Mailing, NEW_PASSWORD};
use crate::harness::{
    PASSWORD, START, assert_invalid_token, both, change_password, delete_account, refused,
};

const ANA: &str = "ana@example.com";
const REQUESTS: &str = "SELECT count(*) FROM mail_requests";

both! {
    async fn a_new_password_voids_the_mails_before_it(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let (first, second) = (mailing.reset_token(ANA).await, mailing.reset_token(ANA).await);
        let mut account = mailing.0.account(&ana);
        account.change_password(change_password(NEW_PASSWORD)).await.unwrap();
        for token in [&first, &second] {
            assert_invalid_token(&refused(mailing.reset(token, PASSWORD).await));
        }
        mailing.log_in(ANA, NEW_PASSWORD).await.unwrap();
        assert_eq!(mailing.0.database.count(REQUESTS).await, 0);
        let third = mailing.reset_token(ANA).await;
        mailing.reset(&third, PASSWORD).await.unwrap();
    }

    /// A replica of the release before changes the password and knows nothing of mails.
    async fn a_new_password_by_an_older_version_voids_the_mails_too(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        let token = mailing.reset_token(ANA).await;
        mailing.request_reset(ANA).await.unwrap();
        let open = mailing.requested().await.pop().unwrap().request_id;
        let later = mailing.0.database.time(START + Duration::from_secs(1));
        let sql = format!("UPDATE users SET password_changed_at = {later}");
        mailing.0.database.execute(&sql).await;
        assert_invalid_token(&refused(mailing.reset(&token, NEW_PASSWORD).await));
        refused(mailing.claim(&open).await);
    }

    async fn a_reset_voids_the_other_mails(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        let (first, second) = (mailing.reset_token(ANA).await, mailing.reset_token(ANA).await);
        mailing.request_reset(ANA).await.unwrap();
        let third = mailing.requested().await.pop().unwrap().request_id;
        mailing.reset(&second, NEW_PASSWORD).await.unwrap();
        assert_invalid_token(&refused(mailing.reset(&first, PASSWORD).await));
        refused(mailing.claim(&third).await);
    }

    async fn the_end_of_an_account_voids_its_mails(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.0.sign_up("ben@example.com").await;
        let (token, other) = (mailing.reset_token(ANA).await, mailing.reset_token("ben@example.com").await);
        mailing.0.account(&ana).delete_account(delete_account(PASSWORD)).await.unwrap();
        assert_invalid_token(&refused(mailing.reset(&token, NEW_PASSWORD).await));
        assert_eq!(mailing.0.database.count(REQUESTS).await, 1);
        mailing.0.sign_up(ANA).await;
        assert_invalid_token(&refused(mailing.reset(&token, NEW_PASSWORD).await));
        mailing.reset(&other, NEW_PASSWORD).await.unwrap();
    }
}
