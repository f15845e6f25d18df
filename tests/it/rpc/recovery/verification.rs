//! `EMAIL_VERIFICATION`: a mail proves that the address of a registration is read.

use std::time::Duration;

use auth_service::{
    model::Clock as _,
    proto::{self, user_event::Payload},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;
use tonic::{Code, Response, Status};

use super::{Mailing, NEW_PASSWORD, mailing};
use crate::harness::{
    PASSWORD, Session, TestDatabase, assert_invalid_token, assert_wrong_password, both, reason,
    refused, register, violation,
};

const ANA: &str = "ana@example.com";
const OPTIONAL: [&str; 2] = ["--email-verification", "optional"];
const REQUIRED: [&str; 2] = ["--email-verification", "required"];
const DAY: Duration = Duration::from_hours(24);

fn verified_claim(tokens: &proto::TokenPair) -> Option<bool> {
    let claims = tokens.access_token.split('.').nth(1).expect("three parts");
    let claims: Value = serde_json::from_slice(&BASE64URL.decode(claims).unwrap()).unwrap();
    claims
        .get("email_verified")
        .map(|claim| claim.as_bool().expect("true or false"))
}

async fn confirm(mailing: &Mailing, token: &str) -> Result<proto::ConfirmEmailResponse, Status> {
    let request = proto::ConfirmEmailRequest {
        token: token.to_owned(),
    };
    mailing
        .recovery()
        .confirm_email(request)
        .await
        .map(Response::into_inner)
}

/// Claims the last mail that was asked for.
async fn last_mail(mailing: &Mailing) -> proto::ClaimMailResponse {
    let last = mailing.requested().await.pop().expect("a mail");
    mailing.claim(&last.request_id).await.expect("it is open")
}

async fn ask(mailing: &Mailing, session: &Session) -> Result<(), Status> {
    let request = proto::RequestEmailVerificationRequest {
        locale: String::new(),
    };
    let mut account = mailing.0.account(session);
    account.request_email_verification(request).await.map(drop)
}

fn assert_not_verified(status: &Status) {
    assert_eq!(
        reason(status),
        (Code::FailedPrecondition, "EMAIL_NOT_VERIFIED".to_owned())
    );
}

both! {
    async fn without_verification_no_mail_is_asked_for(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        assert_eq!(verified_claim(&ana.tokens), None);
        assert_eq!(verified_claim(&mailing.0.refresh(&ana.tokens.refresh_token).await.unwrap()), None);
        assert!(mailing.requested().await.is_empty());
    }

    async fn a_registration_is_verified_by_the_mail_that_it_asks_for(database: TestDatabase) {
        let mailing = mailing(database, &OPTIONAL).await;
        let ana = mailing.0.sign_up(ANA).await;
        assert_eq!(verified_claim(&ana.tokens), Some(false));
        let mail = last_mail(&mailing).await;
        let now = mailing.0.clock.now();
        assert_eq!(mail.purpose().as_str_name(), "MAIL_PURPOSE_VERIFY_EMAIL");
        assert_eq!((&*mail.email, mail.expires_at), (ANA, Some((now + DAY).into())));
        let confirmed = confirm(&mailing, &mail.token).await.unwrap();
        assert_eq!((confirmed.user_id, &*confirmed.email), (ana.user_id.clone(), ANA));

        let events = mailing.0.database.events().await;
        let versions: Vec<_> = events.iter().map(|event| event.user_version).collect();
        assert_eq!(versions, [1, 2, 3]);
        let Some(Payload::EmailVerified(verified)) = &events[2].payload else { panic!("not verified") };
        assert_eq!((&*verified.email, verified.verified_at), (ANA, Some(now.into())));
        let refreshed = mailing.0.refresh(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(verified_claim(&refreshed), Some(true));
        let again = mailing.0.refresh(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(verified_claim(&again), Some(true), "a retry");
        assert_eq!(verified_claim(&mailing.0.sign_in(ANA).await.tokens), Some(true));
        let account = mailing.0.account(&ana).get_account(proto::GetAccountRequest {}).await.unwrap();
        assert_eq!(account.into_inner().email_verified_at, Some(now.into()));
        assert_invalid_token(&refused(confirm(&mailing, &mail.token).await));
    }

    async fn a_required_verification_comes_before_the_first_session(database: TestDatabase) {
        let mailing = mailing(database, &REQUIRED).await;
        let request = proto::RegisterRequest { start_session: true, ..register(ANA) };
        let registered = mailing.0.client().register(request).await.unwrap().into_inner();
        assert!(registered.tokens.is_none() && registered.session_id.is_empty());
        assert_wrong_password(&refused(mailing.log_in(ANA, "wrong").await));
        assert_not_verified(&refused(mailing.log_in(ANA, PASSWORD).await));
        assert_eq!(mailing.requested().await.len(), 1, "the mail of the registration is open");
        let mail = last_mail(&mailing).await;
        confirm(&mailing, &mail.token).await.unwrap();
        let tokens = mailing.log_in(ANA, PASSWORD).await.unwrap().tokens.unwrap();
        assert_eq!(verified_claim(&tokens), Some(true));
    }

    async fn a_login_asks_again_once_no_mail_is_open(database: TestDatabase) {
        let mailing = mailing(database, &REQUIRED).await;
        mailing.0.client().register(register(ANA)).await.unwrap();
        let first = last_mail(&mailing).await;
        mailing.0.clock.advance(DAY);
        assert_not_verified(&refused(mailing.log_in(ANA, PASSWORD).await));
        assert_eq!(mailing.requested().await.len(), 1);
        mailing.0.clock.advance(Duration::from_micros(1));
        for _ in 0..2 {
            assert_not_verified(&refused(mailing.log_in(ANA, PASSWORD).await));
            assert_eq!(mailing.requested().await.len(), 2);
        }
        assert_invalid_token(&refused(confirm(&mailing, &first.token).await));
        // Beyond the limit a login asks for nothing, and is answered alike.
        for asked in 3..6 {
            mailing.0.database.execute("DELETE FROM mail_requests").await;
            assert_not_verified(&refused(mailing.log_in(ANA, PASSWORD).await));
            assert_eq!(mailing.requested().await.len(), asked.min(4));
        }
    }

    async fn a_reset_verifies_the_address_too(database: TestDatabase) {
        let mailing = mailing(database, &REQUIRED).await;
        mailing.0.client().register(register(ANA)).await.unwrap();
        let verification = last_mail(&mailing).await.token;
        mailing.0.clock.advance(Duration::from_secs(1));
        let token = mailing.reset_token(ANA).await;
        mailing.reset(&token, NEW_PASSWORD).await.unwrap();
        mailing.log_in(ANA, NEW_PASSWORD).await.unwrap();
        assert_invalid_token(&refused(confirm(&mailing, &verification).await));
    }

    async fn a_signed_in_user_can_ask_for_the_mail(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        for _ in 0..3 {
            ask(&mailing, &ana).await.unwrap();
        }
        assert_eq!(reason(&refused(ask(&mailing, &ana).await)).1, "TOO_MANY_ATTEMPTS");
        assert_eq!(mailing.requested().await.len(), 3);
        let mail = last_mail(&mailing).await;
        confirm(&mailing, &mail.token).await.unwrap();
        ask(&mailing, &ana).await.expect("nothing is left to do");
        assert_eq!(mailing.requested().await.len(), 3);
    }

    async fn a_token_works_for_its_own_purpose_only(database: TestDatabase) {
        let mailing = mailing(database, &OPTIONAL).await;
        mailing.0.client().register(register(ANA)).await.unwrap();
        let verification = last_mail(&mailing).await.token;
        mailing.0.clock.advance(Duration::from_secs(1));
        let reset = mailing.reset_token(ANA).await;
        assert_invalid_token(&refused(mailing.reset(&verification, NEW_PASSWORD).await));
        assert_invalid_token(&refused(confirm(&mailing, &reset).await));
        assert_eq!(violation(&refused(confirm(&mailing, "").await)).0, "token");
        confirm(&mailing, &verification).await.unwrap();
        mailing.reset(&reset, NEW_PASSWORD).await.unwrap();
    }
}
