//! The mailer claims a mail, at most three times.

use std::time::Duration;

use auth_service::proto::{self, mail_service_client::MailServiceClient};
use tonic::{Code, Status};

use super::{Mailing, NEW_PASSWORD};
use crate::harness::{
    INTERNAL_TOKEN, assert_invalid_token, assert_outage, both, error_line, reason, refused,
    violation, with_bearer,
};

const ANA: &str = "ana@example.com";
const UNKNOWN: &str = "0192f3a4-0000-7000-8000-000000000000";
const SECOND: Duration = Duration::from_secs(1);

fn assert_unknown(status: &Status) {
    assert_eq!(
        error_line(status),
        "NotFound MAIL_REQUEST_NOT_FOUND: the mail request is unknown, expired, used or void"
    );
}

both! {
    async fn each_of_three_claims_has_a_token_until_one_is_used(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        mailing.request_reset(ANA).await.unwrap();
        let id = mailing.requested().await.pop().unwrap().request_id;
        let mut tokens = Vec::new();
        for _ in 0..3 {
            tokens.push(mailing.claim(&id).await.unwrap().token);
        }
        assert_unknown(&refused(mailing.claim(&id).await));
        mailing.reset(&tokens[1], NEW_PASSWORD).await.unwrap();
        for token in &tokens {
            assert_invalid_token(&refused(mailing.reset(token, NEW_PASSWORD).await));
        }
        assert_unknown(&refused(mailing.claim(&id).await));
        assert_eq!(mailing.0.database.count("SELECT count(*) FROM mail_tokens").await, 0);
    }

    async fn a_token_lives_for_half_an_hour_from_its_claim(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        mailing.request_reset(ANA).await.unwrap();
        let id = mailing.requested().await.pop().unwrap().request_id;
        mailing.0.clock.advance(Duration::from_secs(24 * 60 * 60 - 1));
        let first = mailing.claim(&id).await.unwrap().token;
        mailing.0.clock.advance(SECOND);
        let second = mailing.claim(&id).await.unwrap().token;
        mailing.0.clock.advance(Duration::from_micros(1));
        assert_unknown(&refused(mailing.claim(&id).await));
        mailing.0.clock.advance(Duration::from_secs(30 * 60 - 1));
        assert_invalid_token(&refused(mailing.reset(&first, NEW_PASSWORD).await));
        mailing.reset(&second, NEW_PASSWORD).await.unwrap();
    }

    async fn a_mail_of_a_newer_version_is_left_to_it(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        mailing.request_reset(ANA).await.unwrap();
        let id = mailing.requested().await.pop().unwrap().request_id;
        mailing.0.database.execute("UPDATE mail_requests SET purpose = 'newer'").await;
        assert_outage(&refused(mailing.claim(&id).await));
        let claims = "SELECT sum(claims) FROM mail_requests";
        assert_eq!(mailing.0.database.count(claims).await, 0, "it is not used up");
    }

    async fn only_a_caller_with_the_scope_can_claim(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        mailing.request_reset(ANA).await.unwrap();
        let request_id = mailing.requested().await.pop().unwrap().request_id;
        let request = proto::ClaimMailRequest { request_id: request_id.clone() };
        let mut mails = MailServiceClient::new(mailing.0.channel());
        for request in [with_bearer(request.clone(), INTERNAL_TOKEN), tonic::Request::new(request)] {
            let status = refused(mails.claim_mail(request).await);
            assert_eq!(reason(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
        }
        mailing.claim(&request_id.to_uppercase()).await.expect("none of the three is used up");
    }

    async fn an_id_of_no_request_is_refused(mailing: Mailing) {
        assert_unknown(&refused(mailing.claim(UNKNOWN).await));
        for malformed in ["", "junk", &UNKNOWN[1..]] {
            assert_eq!(violation(&refused(mailing.claim(malformed).await)).0, "request_id");
        }
        mailing.request_reset("nobody@example.com").await.unwrap();
        let id = "CAST(id AS text)";
        let id = mailing.0.database.dialect(&mailing.0.database.hex("id"), id).to_owned();
        let ids = mailing.0.database.texts(&format!("SELECT {id} FROM mail_requests")).await;
        let [Some(id)] = &ids[..] else { panic!("one row") };
        let id = uuid::Uuid::parse_str(id).unwrap().to_string();
        assert_unknown(&refused(mailing.claim(&id).await));
    }
}
