//! A suspended account: nobody gets in, and everything is as before when the suspension ends.

use std::time::Duration;

use auth_service::{
    model::Timestamp,
    proto::{self, SessionEndReason, user_event::Payload},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{ANA, assert_suspended, suspend};
use crate::{
    harness::{
        PASSWORD, START, TestDatabase, assert_invalid_token, assert_wrong_password, both, reason,
        refused, register, violation,
    },
    rpc::{
        accounts::{get_account, kinds},
        recovery::{Mailing, NEW_PASSWORD, mailing},
    },
};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const WRONG: &str = "a wrong horse battery staple";

fn until(user_id: &str, until: Timestamp) -> proto::SuspendUserRequest {
    proto::SuspendUserRequest {
        until: Some(until.into()),
        ..suspend(user_id)
    }
}

/// The `until` that a refused login tells.
fn told_end(status: &Status) -> Option<String> {
    let info = status.get_details_error_info().expect("ErrorInfo");
    info.metadata.get("until").cloned()
}

/// The number of hashes for logins without a device token.
async fn hashes(mailing: &Mailing) -> u64 {
    let (_, page) = mailing.0.probe("/metrics").await;
    let done = r#"auth_password_hashes_total{outcome="done",priority="other"} "#;
    let count = page.lines().find_map(|line| line.strip_prefix(done));
    count.expect("the metric").parse().expect("a number")
}

both! {
    async fn a_suspended_user_is_out_at_once_and_cannot_log_in(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let second = mailing.0.sign_in(ANA).await;
        mailing.suspend(&ana.user_id).await;
        for session in [&ana, &second] {
            assert_invalid_token(&refused(mailing.0.refresh(&session.tokens.refresh_token).await));
            assert_invalid_token(&refused(get_account(mailing.0.account(session)).await));
        }
        let status = refused(mailing.log_in(ANA, PASSWORD).await);
        assert_suspended(&status);
        assert_eq!(told_end(&status), None);
        assert_wrong_password(&refused(mailing.log_in(ANA, WRONG).await));
        assert_eq!(reason(&refused(mailing.0.client().register(register(ANA)).await)).1, "EMAIL_TAKEN");
        let user = mailing.user(&ana.user_id).await;
        assert!(user.sessions == 0 && user.suspension == Some(proto::Suspension {
            reason: "spam".to_owned(),
            since: Some(START.into()),
            until: None,
        }));
        let ended = SessionEndReason::Suspended.as_str_name();
        let expected = [(1, "USER_CREATED"), (2, "USER_SUSPENDED"), (3, ended), (4, ended)];
        assert_eq!(kinds(&mailing.0.database.events().await), expected);
        assert_eq!(mailing.actors().await[1..], ["admin:support"; 3]);
    }

    async fn a_restored_user_logs_in_again(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.suspend(&ana.user_id).await;
        mailing.restore(&ana.user_id).await;
        mailing.restore(&ana.user_id).await;
        assert!(mailing.user(&ana.user_id).await.suspension.is_none());
        mailing.log_in(ANA, PASSWORD).await.unwrap();
        assert_invalid_token(&refused(mailing.0.refresh(&ana.tokens.refresh_token).await));
        let payloads = mailing.payloads().await;
        let restored = payloads.iter().filter(|it| matches!(it, Payload::UserRestored(_)));
        assert_eq!(restored.count(), 1, "the second call changed nothing");
    }

    async fn a_suspension_ends_by_itself_without_an_event(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let end = START + HOUR;
        mailing.admin().suspend_user(until(&ana.user_id, end)).await.unwrap();
        mailing.0.clock.set(end - SECOND);
        let status = refused(mailing.log_in(ANA, PASSWORD).await);
        assert_suspended(&status);
        assert_eq!(told_end(&status), Some(end.to_string()));
        assert_wrong_password(&refused(mailing.log_in(ANA, WRONG).await));
        mailing.0.clock.set(end);
        mailing.log_in(ANA, PASSWORD).await.unwrap();
        assert!(mailing.user(&ana.user_id).await.suspension.is_none());
        let version = mailing.user(&ana.user_id).await.event_version;
        mailing.restore(&ana.user_id).await;
        assert_eq!(mailing.user(&ana.user_id).await.event_version, version, "it had ended");
    }

    async fn a_second_suspension_replaces_reason_and_end_and_keeps_the_beginning(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.admin().suspend_user(until(&ana.user_id, START + HOUR)).await.unwrap();
        mailing.0.clock.advance(SECOND);
        let longer = proto::SuspendUserRequest { reason: "fraud".to_owned(), ..suspend(&ana.user_id) };
        mailing.admin().suspend_user(longer).await.unwrap();
        mailing.0.clock.advance(HOUR);
        assert_suspended(&refused(mailing.log_in(ANA, PASSWORD).await));
        let suspension = mailing.user(&ana.user_id).await.suspension.unwrap();
        assert_eq!((&*suspension.reason, suspension.since), ("fraud", Some(START.into())));
        mailing.admin().suspend_user(until(&ana.user_id, START + 2 * HOUR)).await.unwrap();
        mailing.0.clock.set(START + 3 * HOUR);
        mailing.suspend(&ana.user_id).await;
        let suspension = mailing.user(&ana.user_id).await.suspension.unwrap();
        assert_eq!(suspension.since, Some((START + 3 * HOUR).into()), "the one before had ended");
    }

    async fn a_suspension_needs_a_reason_and_an_end_in_the_future(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        for reason in ["", "  ", "a\nb", "a\u{202E}b", &"x".repeat(201)] {
            let request = proto::SuspendUserRequest { reason: reason.to_owned(), ..suspend(&ana.user_id) };
            assert_eq!(violation(&refused(mailing.admin().suspend_user(request).await)).0, "reason");
        }
        for end in [START, START - SECOND, Timestamp::from_micros(0)] {
            let status = refused(mailing.admin().suspend_user(until(&ana.user_id, end)).await);
            assert_eq!(violation(&status).0, "until", "{end}");
        }
        for (seconds, nanos) in [(i64::MAX, 0), (0, -1), (0, 1_000_000_000), (253_402_300_800, 0)] {
            let end = Some(prost_types::Timestamp { seconds, nanos });
            let request = proto::SuspendUserRequest { until: end, ..suspend(&ana.user_id) };
            assert_eq!(violation(&refused(mailing.admin().suspend_user(request).await)).0, "until");
        }
        mailing.0.refresh(&ana.tokens.refresh_token).await.expect("nothing has changed");
    }

    async fn a_suspension_voids_open_resets_and_changes_and_no_other_mail(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let revert = mailing.changed(&ana, "new@example.com").await;
        let email = "new@example.com";
        let token = mailing.reset_token(email).await;
        mailing.0.clock.advance(SECOND);
        let change = mailing.asked(&ana, "thief@example.com").await.token;
        mailing.0.clock.advance(SECOND);
        mailing.request_reset(email).await.unwrap();
        let open = mailing.requested().await.pop().unwrap().request_id;
        mailing.suspend(&ana.user_id).await;
        assert_invalid_token(&refused(mailing.reset(&token, NEW_PASSWORD).await));
        assert_eq!(reason(&refused(mailing.claim(&open).await)).0, Code::NotFound);
        let confirm = || proto::ConfirmEmailRequest { token: change.clone() };
        assert_invalid_token(&refused(mailing.recovery().confirm_email(confirm()).await));
        mailing.restore(&ana.user_id).await;
        assert_invalid_token(&refused(mailing.reset(&token, NEW_PASSWORD).await));
        assert_invalid_token(&refused(mailing.recovery().confirm_email(confirm()).await));
        mailing.revert(&revert.token).await.expect("the owner can still undo a change");
    }

    async fn a_suspended_user_gets_no_reset(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.admin().suspend_user(until(&ana.user_id, START + HOUR)).await.unwrap();
        mailing.request_reset(ANA).await.expect("the answer does not tell");
        let send = || proto::SendPasswordResetRequest { user_id: ana.user_id.clone() };
        assert_suspended(&refused(mailing.admin().send_password_reset(send()).await));
        assert!(mailing.requested().await.is_empty());
        mailing.0.clock.advance(HOUR);
        let token = mailing.reset_token(ANA).await;
        mailing.reset(&token, NEW_PASSWORD).await.unwrap();
    }

    async fn a_revert_of_a_suspended_account_asks_for_no_reset(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let revert = mailing.changed(&ana, "thief@example.com").await;
        mailing.suspend(&ana.user_id).await;
        let asked = mailing.requested().await.len();
        mailing.revert(&revert.token).await.unwrap();
        assert_eq!(mailing.user(&ana.user_id).await.email, ANA);
        assert_eq!(mailing.requested().await.len(), asked);
        mailing.restore(&ana.user_id).await;
        mailing.0.clock.advance(SECOND);
        let token = mailing.reset_token(ANA).await;
        mailing.reset(&token, NEW_PASSWORD).await.unwrap();
    }

    async fn a_suspension_is_told_before_a_missing_verification(database: TestDatabase) {
        let mailing = mailing(database, &["--email-verification", "required"]).await;
        let ana = mailing.0.client().register(register(ANA)).await.unwrap().into_inner();
        mailing.suspend(&ana.user_id).await;
        let asked = mailing.requested().await.len();
        assert_suspended(&refused(mailing.log_in(ANA, PASSWORD).await));
        assert_eq!(mailing.requested().await.len(), asked, "and no mail is asked for");
    }

    async fn a_start_of_a_session_with_an_event_is_refused_too(database: TestDatabase) {
        let mailing = mailing(database, &["--event-sessions", "true"]).await;
        let ana = mailing.0.sign_up(ANA).await;
        mailing.suspend(&ana.user_id).await;
        let events = mailing.0.database.events().await.len();
        assert_suspended(&refused(mailing.log_in(ANA, PASSWORD).await));
        assert_eq!(mailing.0.database.events().await.len(), events);
    }

    async fn attempts_at_a_suspended_account_count_as_at_any(database: TestDatabase) {
        let mailing = mailing(database, &["--throttle-free-per-account", "2", "--throttle-first-wait", "15m"]).await;
        let ana = mailing.0.sign_up(ANA).await;
        mailing.suspend(&ana.user_id).await;
        for _ in 0..3 {
            assert_suspended(&refused(mailing.log_in(ANA, PASSWORD).await));
        }
        let mut wrong = Vec::new();
        for _ in 0..4 {
            wrong.push(reason(&refused(mailing.log_in(ANA, WRONG).await)).1);
        }
        assert_eq!(wrong[0], "INVALID_CREDENTIALS");
        assert_eq!(wrong[3], "TOO_MANY_ATTEMPTS");
    }

    /// As a replica of an older version leaves it, which knows no suspension.
    async fn a_session_of_a_suspended_user_ends_at_its_next_use(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let second = mailing.0.sign_in(ANA).await;
        let rotated = mailing.0.refresh(&second.tokens.refresh_token).await.unwrap();
        let (database, now) = (&mailing.0.database, mailing.0.database.time(START));
        let later = database.time(START + HOUR);
        database.execute(&format!("UPDATE users SET suspended_at = {now}, suspended_until = {later}")).await;
        assert_invalid_token(&refused(get_account(mailing.0.account(&ana)).await));
        assert_invalid_token(&refused(mailing.0.refresh(&ana.tokens.refresh_token).await));
        // A retry, which rotates nothing.
        assert_invalid_token(&refused(mailing.0.refresh(&second.tokens.refresh_token).await));
        mailing.0.clock.advance(HOUR);
        for token in [&ana.tokens.refresh_token, &rotated.refresh_token] {
            assert_invalid_token(&refused(mailing.0.refresh(token).await));
        }
        let ended = SessionEndReason::Suspended.as_str_name();
        let expected = [(1, "USER_CREATED"), (2, ended), (3, ended)];
        assert_eq!(kinds(&mailing.0.database.events().await), expected);
    }

    async fn a_session_goes_on_after_a_suspension_that_has_ended(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let database = &mailing.0.database;
        let (since, until) = (database.time(START - HOUR), database.time(START));
        database.execute(&format!("UPDATE users SET suspended_at = {since}, suspended_until = {until}")).await;
        get_account(mailing.0.account(&ana)).await.unwrap();
        mailing.0.refresh(&ana.tokens.refresh_token).await.unwrap();
        mailing.0.refresh(&ana.tokens.refresh_token).await.expect("a retry");
    }

    /// The hashes that were done: a right password, a wrong one, and one of nobody cost one each.
    async fn a_right_password_of_a_suspended_account_costs_as_much_as_a_wrong_one(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.suspend(&ana.user_id).await;
        let mut before = hashes(&mailing).await;
        for (email, password) in [(ANA, PASSWORD), (ANA, WRONG), ("nobody@example.com", PASSWORD)] {
            refused(mailing.log_in(email, password).await);
            let after = hashes(&mailing).await;
            assert_eq!(after, before + 1, "{email}");
            before = after;
        }
    }
}
