//! Acts with mails that run at the same time: each has its whole effect or none.

use std::time::Duration;

use auth_service::proto;
use tonic::Status;

use super::{Mailing, NEW_PASSWORD, reset};
use crate::harness::{Backend, Held, PASSWORD, WAITING, both, register};

const ANA: &str = "ana@example.com";
const NEW: &str = "ana@example.org";
const ROUNDS: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

fn confirm(token: &str) -> proto::ConfirmEmailRequest {
    proto::ConfirmEmailRequest {
        token: token.to_owned(),
    }
}

impl Mailing {
    /// Keeps acts on Postgres from writing their events, and so from committing: others wait for
    /// their rows. SQLite has one writer.
    pub(in crate::rpc) async fn hold(&self) -> Option<Held> {
        let database = &self.0.database;
        match database.backend() {
            Backend::Postgres => {
                let lock = "LOCK TABLE outbox_events IN SHARE MODE";
                Some(Held::begin(database, lock).await)
            }
            Backend::Sqlite => None,
        }
    }

    /// Lets the acts go on as soon as so many wait.
    pub(in crate::rpc) async fn release(&self, held: Option<Held>, waiting: i64) {
        if let Some(held) = held {
            self.0.database.wait_for(WAITING, waiting).await;
            held.commit().await;
        }
    }

    pub(super) async fn addresses(&self) -> Vec<String> {
        let addresses = self
            .0
            .database
            .texts("SELECT email FROM users ORDER BY email")
            .await;
        addresses.into_iter().flatten().collect()
    }

    async fn count(&self, event: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM outbox_events WHERE event_type = '{event}'");
        self.0.database.count(&sql).await
    }
}

/// `true` for a success. A failure must be one that the contract names.
fn succeeded<T>(answer: Result<T, Status>, reasons: &[&str]) -> bool {
    let Err(status) = answer else { return true };
    let reason = crate::harness::reason(&status).1;
    assert!(reasons.contains(&&*reason), "{status:?}");
    false
}

both! {
    async fn of_all_tokens_of_a_request_one_is_used(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        let first = mailing.reset_token(ANA).await;
        let request_id = mailing.requested().await.pop().unwrap().request_id;
        let (second, third) = (mailing.claim(&request_id).await.unwrap(), mailing.claim(&request_id).await.unwrap());
        let uses = [first, second.token, third.token].map(|token| {
            let mut recovery = mailing.recovery();
            async move { recovery.reset_password(reset(&token, NEW_PASSWORD)).await }
        });
        let uses = futures::future::join_all(uses).await.into_iter();
        let uses = uses.filter_map(|answer| succeeded(answer, &["INVALID_TOKEN"]).then_some(()));
        assert_eq!(uses.count(), 1);
        assert_eq!(mailing.count("PASSWORD_CHANGED").await, 1);
    }

    async fn a_claim_beside_a_use_leaves_no_token(mailing: Mailing) {
        for n in 0..ROUNDS {
            // The mails of this round are later than those of the last one.
            mailing.0.clock.advance(SECOND);
            let email = format!("ana{n}@example.com");
            mailing.0.sign_up(&email).await;
            let token = mailing.reset_token(&email).await;
            let request_id = mailing.requested().await.pop().unwrap().request_id;
            let (used, claimed) = tokio::join!(mailing.reset(&token, NEW_PASSWORD), mailing.claim(&request_id));
            used.expect("its token is good");
            if let Ok(mail) = claimed {
                assert!(!succeeded(mailing.reset(&mail.token, PASSWORD).await, &["INVALID_TOKEN"]));
            }
            let left = mailing.0.database.count("SELECT count(*) FROM mail_tokens").await;
            assert_eq!(left, 0);
        }
    }

    async fn a_registration_beside_a_change_leaves_the_address_to_one_of_them(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mail = mailing.asked(&ana, NEW).await;
        let (mut recovery, mut client) = (mailing.recovery(), mailing.0.client());
        let held = mailing.hold().await;
        let (changed, registered, ()) = tokio::join!(
            recovery.confirm_email(confirm(&mail.token)),
            client.register(register(NEW)),
            mailing.release(held, 2),
        );
        let outcomes = [succeeded(changed, &["EMAIL_TAKEN"]), succeeded(registered, &["EMAIL_TAKEN"])];
        assert_eq!(outcomes.into_iter().filter(|succeeded| *succeeded).count(), 1);
        let expected: &[_] = if outcomes[0] { &[NEW] } else { &[ANA, NEW] };
        assert_eq!(mailing.addresses().await, expected);
    }

    async fn a_registration_of_the_old_address_beside_a_change_never_has_it(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mail = mailing.asked(&ana, NEW).await;
        let (mut recovery, mut client) = (mailing.recovery(), mailing.0.client());
        let held = mailing.hold().await;
        let (changed, registered, ()) = tokio::join!(
            recovery.confirm_email(confirm(&mail.token)),
            client.register(register(ANA)),
            mailing.release(held, 2),
        );
        changed.expect("the new address is free");
        assert!(!succeeded(registered, &["EMAIL_TAKEN"]));
        assert_eq!(mailing.addresses().await, [NEW]);
    }

    async fn a_reset_beside_a_change_of_the_address_leaves_one_of_them(mailing: Mailing) {
        for n in 0..ROUNDS {
            // The mails of this round are later than those of the last one.
            mailing.0.clock.advance(SECOND);
            let email = format!("ana{n}@example.com");
            let ana = mailing.0.sign_up(&email).await;
            let token = mailing.reset_token(&email).await;
            let change = mailing.asked(&ana, &format!("new{n}@example.com")).await;
            let mut recovery = mailing.recovery();
            let held = mailing.hold().await;
            let (reset, changed, ()) = tokio::join!(
                mailing.reset(&token, NEW_PASSWORD),
                recovery.confirm_email(confirm(&change.token)),
                mailing.release(held, 2),
            );
            let outcomes = [succeeded(reset, &["INVALID_TOKEN"]), succeeded(changed, &["INVALID_TOKEN"])];
            assert_eq!(outcomes.into_iter().filter(|succeeded| *succeeded).count(), 1, "{n}");
        }
    }

    async fn a_revert_beside_the_next_change_wins(mailing: Mailing) {
        for n in 0..ROUNDS {
            // The mails of this round are later than those of the last one.
            mailing.0.clock.advance(SECOND);
            let email = format!("ana{n}@example.com");
            let ana = mailing.0.sign_up(&email).await;
            let revert = mailing.changed(&ana, &format!("thief{n}@example.com")).await;
            let next = mailing.asked(&ana, &format!("thief{n}@example.net")).await;
            let mut recovery = mailing.recovery();
            let held = mailing.hold().await;
            let (reverted, changed, ()) = tokio::join!(
                mailing.revert(&revert.token),
                recovery.confirm_email(confirm(&next.token)),
                mailing.release(held, 2),
            );
            reverted.expect("nothing voids it");
            succeeded(changed, &["INVALID_TOKEN"]);
            assert!(!mailing.addresses().await.iter().any(|address| address.starts_with("thief")));
            succeeded(mailing.log_in(&email, PASSWORD).await, &["INVALID_CREDENTIALS"]);
        }
    }
}
