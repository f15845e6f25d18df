//! `ChangeEmail`, its confirmation and its undoing.

use std::time::Duration;

use auth_service::{
    model::Clock as _,
    proto::{self, user_event::Payload},
};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use super::{Mailing, NEW_PASSWORD, mailing};
use crate::harness::{
    PASSWORD, START, Session, TestDatabase, assert_invalid_token, assert_wrong_password, both,
    change_password, delete_account, reason, refused, register, retry_after, violation,
};

const ANA: &str = "ana@example.com";
const NEW: &str = "ana@example.org";
const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

fn change(password: &str, email: &str) -> proto::ChangeEmailRequest {
    proto::ChangeEmailRequest {
        current_password: password.to_owned(),
        new_email: email.to_owned(),
        locale: String::new(),
    }
}

impl Mailing {
    async fn ask(&self, session: &Session, email: &str) -> Result<(), Status> {
        // Each event has a time of its own, so the last one is the last.
        self.0.clock.advance(SECOND);
        let mut account = self.0.account(session);
        account
            .change_email(change(PASSWORD, email))
            .await
            .map(drop)
    }

    /// Claims the last mail, which must be for this purpose.
    async fn claim_last(&self, purpose: &str) -> proto::ClaimMailResponse {
        let last = self.requested().await.pop().expect("a mail");
        assert_eq!(last.purpose().as_str_name(), purpose);
        self.claim(&last.request_id).await.expect("it is open")
    }

    pub(in crate::rpc) async fn asked(
        &self,
        session: &Session,
        email: &str,
    ) -> proto::ClaimMailResponse {
        self.ask(session, email).await.expect("within the limits");
        self.claim_last("MAIL_PURPOSE_CHANGE_EMAIL").await
    }

    async fn confirm(&self, token: &str) -> Result<proto::ConfirmEmailResponse, Status> {
        let request = proto::ConfirmEmailRequest {
            token: token.to_owned(),
        };
        self.recovery()
            .confirm_email(request)
            .await
            .map(Response::into_inner)
    }

    /// Changes the address, and claims the mail to the old one.
    pub(in crate::rpc) async fn changed(
        &self,
        session: &Session,
        email: &str,
    ) -> proto::ClaimMailResponse {
        let mail = self.asked(session, email).await;
        self.confirm(&mail.token)
            .await
            .expect("the address is free");
        self.claim_last("MAIL_PURPOSE_REVERT_EMAIL").await
    }

    pub(in crate::rpc) async fn revert(
        &self,
        token: &str,
    ) -> Result<proto::RevertEmailResponse, Status> {
        let request = proto::RevertEmailRequest {
            token: token.to_owned(),
        };
        self.recovery()
            .revert_email(request)
            .await
            .map(Response::into_inner)
    }

    async fn account_of(&self, session: &Session) -> proto::GetAccountResponse {
        let answer = self
            .0
            .account(session)
            .get_account(proto::GetAccountRequest {})
            .await;
        answer.expect("it is signed in").into_inner()
    }

    /// The requests of all mails.
    async fn mails(&self) -> Vec<String> {
        let mails = self.requested().await.into_iter();
        mails.map(|mail| mail.request_id).collect()
    }

    async fn kinds(&self, skipped: usize) -> Vec<String> {
        let events = self.0.database.events().await.split_off(skipped);
        let kind = |payload| match payload {
            Payload::SessionEnded(ended) => ended.reason().as_str_name().to_owned(),
            Payload::MailRequested(mail) => mail.purpose().as_str_name().to_owned(),
            Payload::PasswordChanged(changed) => changed.cause().as_str_name().to_owned(),
            Payload::EmailChanged(changed) => {
                format!(
                    "{} -> {} {}",
                    changed.old_email, changed.new_email, changed.reverted
                )
            }
            _ => "another".to_owned(),
        };
        events
            .into_iter()
            .filter_map(|event| event.payload.map(kind))
            .collect()
    }
}

fn assert_taken(status: &Status) {
    assert_eq!(
        reason(status),
        (Code::AlreadyExists, "EMAIL_TAKEN".to_owned())
    );
}

both! {
    async fn an_address_changes_once_the_new_one_is_proven(mailing: Mailing) {
        let phone = mailing.0.sign_up(ANA).await;
        let laptop = mailing.0.sign_in(ANA).await;
        let mail = mailing.asked(&phone, " Ana@Example.ORG ").await;
        assert_eq!(mail.email, NEW);
        let account = mailing.account_of(&phone).await;
        assert_eq!((&*account.email, &*account.pending_email), (ANA, NEW));
        let confirmed = mailing.confirm(&mail.token).await.unwrap();
        assert_eq!((confirmed.user_id, &*confirmed.email), (phone.user_id.clone(), NEW));

        let now = mailing.0.clock.now();
        let account = mailing.account_of(&phone).await;
        assert_eq!((&*account.email, &*account.pending_email), (NEW, ""));
        assert_eq!(account.email_verified_at, Some(now.into()));
        mailing.0.refresh(&phone.tokens.refresh_token).await.expect("the session that asked");
        assert_invalid_token(&refused(mailing.0.refresh(&laptop.tokens.refresh_token).await));
        assert_wrong_password(&refused(mailing.log_in(ANA, PASSWORD).await));
        mailing.log_in(NEW, PASSWORD).await.unwrap();
        assert_eq!(mailing.kinds(1).await, [
            "MAIL_PURPOSE_CHANGE_EMAIL",
            "ana@example.com -> ana@example.org false",
            "SESSION_END_REASON_EMAIL_CHANGED",
            "MAIL_PURPOSE_REVERT_EMAIL",
        ]);
        let revert = mailing.claim_last("MAIL_PURPOSE_REVERT_EMAIL").await;
        assert_eq!((&*revert.email, revert.expires_at), (ANA, Some((now + 7 * DAY).into())));
        assert_invalid_token(&refused(mailing.confirm(&mail.token).await));
    }

    async fn a_change_needs_the_password_and_another_valid_address(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mut account = mailing.0.account(&ana);
        assert_wrong_password(&refused(account.change_email(change("wrong", NEW)).await));
        for email in ["", "no address", ANA, " ANA@example.com"] {
            let refused = refused(account.change_email(change(PASSWORD, email)).await);
            assert_eq!(violation(&refused).0, "new_email", "{email}");
        }
        assert!(mailing.requested().await.is_empty());
    }

    async fn a_taken_address_is_told_only_to_who_reads_its_mails(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.0.client().register(register(NEW)).await.unwrap();
        let mail = mailing.asked(&ana, NEW).await;
        for _ in 0..2 {
            assert_taken(&refused(mailing.confirm(&mail.token).await));
        }
        assert_eq!(mailing.account_of(&ana).await.email, ANA);
        let other = mailing.log_in(NEW, PASSWORD).await.unwrap().tokens.unwrap();
        mailing.0.account_with(&other.access_token).delete_account(delete_account(PASSWORD)).await.unwrap();
        mailing.confirm(&mail.token).await.expect("the token was not used up");
    }

    async fn of_two_accounts_one_gets_the_address(mailing: Mailing) {
        let mut tokens = Vec::new();
        for email in [ANA, "ben@example.com"] {
            let session = mailing.0.sign_up(email).await;
            tokens.push(mailing.asked(&session, NEW).await.token);
        }
        let held = mailing.hold().await;
        let mut both = JoinSet::new();
        for token in tokens {
            let (mut recovery, request) = (mailing.recovery(), proto::ConfirmEmailRequest { token });
            both.spawn(async move { recovery.confirm_email(request).await });
        }
        mailing.release(held, 2).await;
        let answers = both.join_all().await;
        let codes: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Status::code)).collect();
        assert!(codes.contains(&None) && codes.contains(&Some(Code::AlreadyExists)), "{codes:?}");
        let with = "SELECT count(*) FROM users WHERE email = 'ana@example.org'";
        assert_eq!(mailing.0.database.count(with).await, 1);
    }

    async fn the_old_address_stays_reserved_while_the_change_can_be_undone(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.changed(&ana, NEW).await;
        assert_taken(&refused(mailing.0.client().register(register(ANA)).await));
        let ben = mailing.0.sign_up("ben@example.com").await;
        let mail = mailing.asked(&ben, ANA).await;
        assert_taken(&refused(mailing.confirm(&mail.token).await));
        let rows = "SELECT count(*) FROM users";
        assert_eq!(mailing.0.database.count(rows).await, 2);
        mailing.0.clock.advance(7 * DAY + SECOND);
        mailing.0.client().register(register(ANA)).await.expect("the time is over");
    }

    async fn an_owner_can_return_to_the_old_address(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.changed(&ana, NEW).await;
        mailing.changed(&ana, ANA).await;
        assert_eq!(mailing.account_of(&ana).await.email, ANA);
    }

    async fn the_owner_of_the_old_address_takes_the_account_back(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let revert = mailing.changed(&ana, NEW).await;
        mailing.0.clock.advance(SECOND);
        let reverted = mailing.revert(&revert.token).await.unwrap();
        assert_eq!((reverted.user_id, &*reverted.email), (ana.user_id.clone(), ANA));
        assert_invalid_token(&refused(mailing.0.refresh(&ana.tokens.refresh_token).await));
        for email in [ANA, NEW] {
            assert_wrong_password(&refused(mailing.log_in(email, PASSWORD).await));
        }
        assert_eq!(mailing.kinds(4).await, [
            "ana@example.org -> ana@example.com true",
            "PASSWORD_CHANGE_CAUSE_INVALIDATED",
            "SESSION_END_REASON_EMAIL_REVERTED",
            "MAIL_PURPOSE_RESET_PASSWORD",
        ]);
        let reset = mailing.claim_last("MAIL_PURPOSE_RESET_PASSWORD").await;
        assert_eq!(reset.email, ANA);
        mailing.reset(&reset.token, NEW_PASSWORD).await.unwrap();
        mailing.log_in(ANA, NEW_PASSWORD).await.unwrap();
        assert_invalid_token(&refused(mailing.revert(&revert.token).await));
        mailing.0.client().register(register(NEW)).await.expect("it is free again");
    }

    async fn a_revert_works_after_the_password_changed(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let revert = mailing.changed(&ana, NEW).await;
        mailing.0.account(&ana).change_password(change_password(NEW_PASSWORD)).await.unwrap();
        mailing.0.clock.advance(SECOND);
        let token = mailing.reset_token(NEW).await;
        mailing.reset(&token, PASSWORD).await.unwrap();
        mailing.revert(&revert.token).await.unwrap();
        assert_wrong_password(&refused(mailing.log_in(ANA, PASSWORD).await));
    }

    async fn a_revert_voids_the_reverts_of_later_changes_only(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mut reverts = Vec::new();
        for email in [NEW, "thief@example.net", "thief@example.com"] {
            reverts.push(mailing.changed(&ana, email).await);
        }
        // The owner of the second address, then that of the first one.
        assert_eq!(mailing.revert(&reverts[1].token).await.unwrap().email, NEW);
        assert_invalid_token(&refused(mailing.revert(&reverts[2].token).await));
        assert_eq!(mailing.revert(&reverts[0].token).await.unwrap().email, ANA);
        let addresses = mailing.0.database.texts("SELECT email FROM users").await;
        assert_eq!(addresses, [Some(ANA.to_owned())]);
    }

    async fn an_open_reset_is_void_once_the_address_has_changed(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let reset = mailing.reset_token(ANA).await;
        mailing.changed(&ana, NEW).await;
        assert_invalid_token(&refused(mailing.reset(&reset, NEW_PASSWORD).await));
    }

    async fn a_new_password_voids_a_pending_change(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mail = mailing.asked(&ana, NEW).await;
        mailing.0.account(&ana).change_password(change_password(NEW_PASSWORD)).await.unwrap();
        assert_invalid_token(&refused(mailing.confirm(&mail.token).await));
    }

    async fn a_second_request_replaces_the_first(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let first = mailing.asked(&ana, NEW).await;
        let second = mailing.asked(&ana, "other@example.org").await;
        assert_invalid_token(&refused(mailing.confirm(&first.token).await));
        assert_eq!(mailing.account_of(&ana).await.pending_email, "other@example.org");
        mailing.confirm(&second.token).await.unwrap();
    }

    async fn three_changes_are_allowed_in_seven_days(database: TestDatabase) {
        let mailing = mailing(database, &["--access-token-ttl", "12h"]).await;
        let ana = mailing.0.sign_up(ANA).await;
        for n in 0..3 {
            mailing.changed(&ana, &format!("{n}@example.org")).await;
            mailing.0.clock.advance(60 * MINUTE);
        }
        let held = refused(mailing.ask(&ana, NEW).await);
        assert_eq!(reason(&held).1, "TOO_MANY_ATTEMPTS");
        let left = Duration::from_hours(7 * 24 - 3);
        assert!(retry_after(&held).is_some_and(|wait| wait <= left && wait + 10 * SECOND > left));
        assert_eq!(mailing.account_of(&ana).await.email, "2@example.org");
    }

    async fn a_user_asks_for_three_changes_an_hour_whatever_strangers_ask_for(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        for _ in 0..3 {
            mailing.request_reset(ANA).await.unwrap();
            mailing.request_reset(NEW).await.unwrap();
        }
        for n in 0..3 {
            mailing.ask(&ana, &format!("{n}@example.org")).await.expect("within the limit");
        }
        let held = refused(mailing.ask(&ana, NEW).await);
        assert_eq!(reason(&held).1, "TOO_MANY_ATTEMPTS");
    }

    async fn an_address_is_asked_to_confirm_three_changes_an_hour(mailing: Mailing) {
        for n in 0..4 {
            let user = mailing.0.sign_up(&format!("{n}@example.com")).await;
            assert_eq!(mailing.ask(&user, NEW).await.is_ok(), n < 3);
        }
        assert_eq!(mailing.requested().await.len(), 3);
    }

    async fn changes_are_in_their_order_also_if_a_clock_goes_back(mailing: Mailing) {
        for first in [0, 1] {
            let (email, thief) = (format!("ana{first}@example.com"), format!("thief{first}@example.com"));
            let base = START + first * DAY;
            mailing.0.clock.set(base);
            let ana = mailing.0.sign_up(&email).await;
            let mut reverts = Vec::new();
            for (to, confirmed) in [&format!("ana{first}@example.org"), &thief].into_iter().zip([2, 1]) {
                let change = mailing.asked(&ana, to).await;
                let earlier = mailing.mails().await;
                mailing.0.clock.set(base + confirmed * SECOND);
                mailing.confirm(&change.token).await.unwrap();
                let mut mails = mailing.mails().await;
                mails.retain(|mail| !earlier.contains(mail));
                reverts.push(mailing.claim(&mails[0]).await.unwrap());
            }
            let (used, other) = if first == 0 { (0, 1) } else { (1, 0) };
            mailing.revert(&reverts[used].token).await.unwrap();
            let other = mailing.revert(&reverts[other].token).await;
            // The revert of the first change voids that of the second, and not the other way round.
            assert_eq!(other.is_ok(), first == 1);
            assert!(!mailing.addresses().await.contains(&thief));
        }
    }

    async fn a_pending_change_is_not_shown_after_a_new_password_by_an_older_version(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.asked(&ana, NEW).await;
        let later = mailing.0.database.time(START + SECOND);
        let sql = format!("UPDATE users SET password_changed_at = {later}");
        mailing.0.database.execute(&sql).await;
        assert_eq!(mailing.account_of(&ana).await.pending_email, "");
    }

    async fn an_address_is_reserved_as_long_as_its_mail_can_be_used(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let ben = mailing.0.sign_up("ben@example.com").await;
        mailing.changed(&ana, NEW).await;
        let change = mailing.asked(&ben, "ben@example.org").await;
        mailing.confirm(&change.token).await.unwrap();
        let unclaimed = mailing.requested().await.pop().unwrap().request_id;
        mailing.0.clock.advance(6 * DAY);
        let late = mailing.claim(&unclaimed).await.unwrap();
        mailing.0.clock.advance(DAY + 2 * SECOND);
        mailing.0.client().register(register(ANA)).await.expect("its mail was claimed at once");
        mailing.0.clock.advance(5 * DAY);
        assert_taken(&refused(mailing.0.client().register(register("ben@example.com")).await));
        mailing.0.clock.advance(DAY);
        assert_invalid_token(&refused(mailing.revert(&late.token).await));
        mailing.0.client().register(register("ben@example.com")).await.expect("its time is over");
    }

    async fn a_token_of_another_purpose_is_refused_and_not_used_up(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let reset = mailing.reset_token(ANA).await;
        assert_invalid_token(&refused(mailing.confirm(&reset).await));
        assert_invalid_token(&refused(mailing.revert(&reset).await));
        let change = mailing.asked(&ana, NEW).await;
        assert_invalid_token(&refused(mailing.revert(&change.token).await));
        assert_invalid_token(&refused(mailing.reset(&change.token, NEW_PASSWORD).await));
        mailing.confirm(&change.token).await.expect("it was not used up");
        let revert = mailing.claim_last("MAIL_PURPOSE_REVERT_EMAIL").await;
        assert_invalid_token(&refused(mailing.confirm(&revert.token).await));
        assert_invalid_token(&refused(mailing.reset(&revert.token, NEW_PASSWORD).await));
        mailing.revert(&revert.token).await.expect("it was not used up");
    }

    async fn the_end_of_the_account_ends_its_changes(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let revert = mailing.changed(&ana, NEW).await;
        let pending = mailing.asked(&ana, "other@example.org").await;
        mailing.0.account(&ana).delete_account(delete_account(PASSWORD)).await.unwrap();
        assert_invalid_token(&refused(mailing.revert(&revert.token).await));
        assert_invalid_token(&refused(mailing.confirm(&pending.token).await));
        mailing.0.client().register(register(ANA)).await.expect("nothing is reserved any more");
    }

    async fn the_end_of_the_session_that_asked_ends_no_change(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let mail = mailing.asked(&ana, NEW).await;
        mailing.0.log_out(&ana.tokens.refresh_token).await.unwrap();
        mailing.confirm(&mail.token).await.unwrap();
        mailing.log_in(NEW, PASSWORD).await.unwrap();
    }
}
