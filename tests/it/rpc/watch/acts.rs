//! Every act that ends sessions revokes their access tokens.

use std::time::Duration;

use super::{ANA, BEN, session};
use crate::{
    harness::{
        Revoked, Service, Session, Watch, both, change_password, delete_account, end_session,
        refused,
    },
    rpc::{
        accounts::sessions::add_sessions,
        recovery::{Mailing, NEW_PASSWORD},
    },
};
use auth_service::{
    model::{Clock as _, Timestamp},
    proto,
};

const SECOND: Duration = Duration::from_secs(1);

/// The user, a session that acts, another one, and the stream of a watcher.
struct Acting {
    own: Session,
    other: Session,
    watch: Watch,
}

async fn acting(service: &Service) -> Acting {
    let own = service.sign_up(ANA).await;
    service.clock.advance(SECOND);
    let other = service.sign_in(ANA).await;
    service.sign_up(BEN).await;
    service.clock.advance(SECOND * 5);
    let (watch, snapshot) = Watch::begin(service.channel()).await;
    assert!(snapshot.is_empty(), "signing in revokes nothing");
    Acting { own, other, watch }
}

impl Acting {
    async fn assert_heard(mut self, mut expected: Vec<Revoked>) {
        let mut heard = self.watch.until_heartbeat().await;
        heard.sort();
        expected.sort();
        assert_eq!(heard, expected);
    }

    /// All sessions of the user, at this time.
    async fn assert_user_heard(self, at: Timestamp) {
        let user = Revoked::User(self.own.user_id.clone(), at);
        self.assert_heard(vec![user]).await;
    }
}

both! {
    async fn reuse(service: Service) {
        let acting = acting(&service).await;
        let token = &acting.own.tokens.refresh_token;
        let next = service.refresh(token).await.unwrap();
        service.refresh(&next.refresh_token).await.unwrap();
        service.clock.advance(SECOND * 60);
        refused(service.refresh(token).await);
        let expected = vec![session(&acting.own)];
        acting.assert_heard(expected).await;
    }

    async fn end_session_of_the_account(service: Service) {
        let acting = acting(&service).await;
        let mut account = service.account(&acting.own);
        account.end_session(end_session(&acting.other.id)).await.unwrap();
        account.end_session(end_session(&acting.other.id)).await.unwrap();
        let expected = vec![session(&acting.other)];
        acting.assert_heard(expected).await;
    }

    async fn end_other_sessions(service: Service) {
        let acting = acting(&service).await;
        let third = service.sign_in(ANA).await;
        service.account(&third).end_other_sessions(proto::EndOtherSessionsRequest {}).await.unwrap();
        let expected = vec![session(&acting.own), session(&acting.other)];
        acting.assert_heard(expected).await;
    }

    async fn change_of_the_password(service: Service) {
        let acting = acting(&service).await;
        let mut account = service.account(&acting.own);
        account.change_password(change_password(NEW_PASSWORD)).await.unwrap();
        let expected = vec![session(&acting.other)];
        acting.assert_heard(expected).await;
    }

    async fn deletion_of_the_account(service: Service) {
        let acting = acting(&service).await;
        let mut account = service.account(&acting.own);
        account.delete_account(delete_account(crate::harness::PASSWORD)).await.unwrap();
        acting.assert_user_heard(service.clock.now()).await;
    }

    async fn too_many_sessions(service: Service) {
        let acting = acting(&service).await;
        add_sessions(&service.database, &acting.own.user_id, 98).await;
        service.sign_in(ANA).await;
        // The oldest by its time of creation.
        let expected = vec![session(&acting.own)];
        acting.assert_heard(expected).await;
    }

    async fn reset_of_the_password_but_not_the_session_that_it_starts(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let token = mailing.reset_token(ANA).await;
        mailing.0.clock.advance(SECOND);
        let request = proto::ResetPasswordRequest {
            reset_token: token,
            new_password: NEW_PASSWORD.to_owned(),
            start_session: true,
            ..Default::default()
        };
        let answer = mailing.recovery().reset_password(request).await.unwrap().into_inner();
        let now = mailing.0.clock.now();
        // The milliseconds of the UUIDv7.
        let started = &answer.session_id.replace('-', "")[..12];
        let started = i64::from_str_radix(started, 16).unwrap();
        assert!(started >= now.as_micros() / 1000, "a gateway sees that it is new");
        acting.assert_user_heard(now).await;
    }

    async fn change_of_the_address(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let mail = mailing.asked(&acting.own, "ana@example.org").await;
        let request = proto::ConfirmEmailRequest { token: mail.token };
        mailing.recovery().confirm_email(request).await.unwrap();
        let expected = vec![session(&acting.other)];
        acting.assert_heard(expected).await;
    }

    async fn undoing_of_a_change_of_the_address(mailing: Mailing) {
        let service = &mailing.0;
        let own = service.sign_up(ANA).await;
        let mail = mailing.asked(&own, "ana@example.org").await;
        let request = proto::ConfirmEmailRequest { token: mail.token };
        mailing.recovery().confirm_email(request).await.unwrap();
        let revert = mailing.requested().await.pop().expect("a mail to the old address");
        let token = mailing.claim(&revert.request_id).await.unwrap().token;
        let (mut watch, _) = Watch::begin(service.channel()).await;
        mailing.recovery().revert_email(proto::RevertEmailRequest { token }).await.unwrap();
        let user = Revoked::User(own.user_id, service.clock.now());
        assert_eq!(watch.until_heartbeat().await, [user]);
    }

    async fn suspension(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let request = proto::SuspendUserRequest {
            user_id: acting.own.user_id.clone(),
            reason: "spam".to_owned(),
            until: None,
        };
        mailing.admin().suspend_user(request).await.unwrap();
        acting.assert_user_heard(mailing.0.clock.now()).await;
    }

    async fn end_of_one_session_by_support(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let request = proto::EndUserSessionsRequest {
            user_id: acting.own.user_id.clone(),
            session_id: acting.other.id.clone(),
        };
        mailing.admin().end_user_sessions(request).await.unwrap();
        let expected = vec![session(&acting.other)];
        acting.assert_heard(expected).await;
    }

    async fn end_of_all_sessions_by_support(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let request = proto::EndUserSessionsRequest {
            user_id: acting.own.user_id.clone(),
            ..Default::default()
        };
        mailing.admin().end_user_sessions(request).await.unwrap();
        acting.assert_user_heard(mailing.0.clock.now()).await;
    }

    async fn invalidation_of_the_password(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let request = proto::InvalidatePasswordRequest { user_id: acting.own.user_id.clone() };
        mailing.admin().invalidate_password(request).await.unwrap();
        acting.assert_user_heard(mailing.0.clock.now()).await;
    }

    async fn deletion_by_support(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let request = proto::DeleteUserRequest { user_id: acting.own.user_id.clone() };
        mailing.admin().delete_user(request).await.unwrap();
        acting.assert_user_heard(mailing.0.clock.now()).await;
    }

    async fn a_token_of_a_replica_whose_clock_is_ahead_is_revoked_too(mailing: Mailing) {
        let acting = acting(&mailing.0).await;
        let ahead = mailing.0.clock.now() + SECOND * 20;
        mailing.0.clock.set(ahead);
        let refreshed = mailing.0.refresh(&acting.own.tokens.refresh_token).await.unwrap();
        mailing.0.clock.set(ahead - SECOND * 20);
        let request = proto::EndUserSessionsRequest {
            user_id: acting.own.user_id.clone(),
            ..Default::default()
        };
        mailing.admin().end_user_sessions(request).await.unwrap();
        let expires_at = refreshed.access_token_expires_at.unwrap();
        let mut acting = acting;
        let mut heard = Vec::new();
        for _ in 0..2 {
            let revocation = acting.watch.revocation().await;
            assert!(revocation.until.unwrap().seconds >= expires_at.seconds);
            heard.push(crate::harness::revoked(&revocation));
        }
        heard.sort();
        let user = Revoked::User(acting.own.user_id.clone(), mailing.0.clock.now());
        // A later time for the user would refuse a session that starts now.
        assert_eq!(heard, [session(&acting.own), user]);
    }

    async fn a_token_of_a_retry_that_is_younger_than_the_act_is_revoked_too(mailing: Mailing) {
        let mut acting = acting(&mailing.0).await;
        let token = &acting.own.tokens.refresh_token;
        mailing.0.refresh(token).await.unwrap();
        let rotated_at = mailing.0.clock.now();
        // The retry is at a replica whose clock is ahead, the act at another one.
        mailing.0.clock.set(rotated_at + SECOND * 20);
        mailing.0.refresh(token).await.unwrap();
        mailing.0.clock.set(rotated_at + SECOND);
        let request = proto::EndUserSessionsRequest {
            user_id: acting.own.user_id.clone(),
            ..Default::default()
        };
        mailing.admin().end_user_sessions(request).await.unwrap();
        let user = Revoked::User(acting.own.user_id.clone(), mailing.0.clock.now());
        let mut heard = acting.watch.until_heartbeat().await;
        heard.sort();
        assert_eq!(heard, [session(&acting.own), user]);
    }

    async fn refresh_and_login_and_logout_of_an_ended_session_revoke_nothing(service: Service) {
        let acting = acting(&service).await;
        let next = service.refresh(&acting.own.tokens.refresh_token).await.unwrap();
        service.sign_in(ANA).await;
        service.log_out(&next.refresh_token).await.unwrap();
        service.log_out(&next.refresh_token).await.unwrap();
        let expected = vec![session(&acting.own)];
        acting.assert_heard(expected).await;
        assert_eq!(service.database.count("SELECT count(*) FROM revocations").await, 1);
    }
}
