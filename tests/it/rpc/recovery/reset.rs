//! The way of a forgotten password: request, mail, new password.

use std::time::Duration;

use auth_service::{
    model::Clock as _,
    proto::{self, user_event::Payload},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use tokio::task::JoinSet;
use tonic::{Code, Response};

use super::{Mailing, NEW_PASSWORD, asked, mailing, reset};
use crate::harness::{
    PASSWORD, TestDatabase, assert_invalid_token, assert_wrong_password, both, crc32, reason,
    refused, violation,
};

const ANA: &str = "ana@example.com";
const DAY: Duration = Duration::from_hours(24);
const EVERYTHING: [&str; 6] = [
    "users",
    "sessions",
    "outbox_events",
    "login_throttle",
    "mail_requests",
    "mail_tokens",
];

/// Well-formed, but of no request.
fn unknown_token() -> String {
    let secret = [0; 32];
    let checksum = crc32(&secret).to_be_bytes();
    format!(
        "rcm_{}",
        BASE64URL.encode([&secret[..], &checksum].concat())
    )
}

async fn everything(mailing: &Mailing) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for table in EVERYTHING {
        rows.push(mailing.0.database.dump(table).await);
    }
    rows
}

both! {
    async fn a_forgotten_password_is_replaced_by_mail(mailing: Mailing) {
        let service = &mailing.0;
        let phone = service.sign_up(ANA).await;
        service.clock.advance(Duration::from_millis(1));
        let laptop = service.sign_in(ANA).await;
        let asked_at = service.clock.now();
        mailing.request_reset(" Ana@Example.com ").await.unwrap();
        let requested = service.database.events().await.pop().unwrap();
        assert_eq!((requested.user_version, &*requested.actor), (2, "user"));
        assert_eq!(requested.user_id, phone.user_id);
        let Some(Payload::MailRequested(mail)) = requested.payload else { panic!("no mail") };
        assert_eq!(mail.purpose().as_str_name(), "MAIL_PURPOSE_RESET_PASSWORD");
        assert_eq!(mail.expires_at, Some((asked_at + DAY).into()));

        service.clock.advance(Duration::from_secs(5));
        let claimed = mailing.claim(&mail.request_id).await.unwrap();
        assert_eq!(claimed.purpose, mail.purpose);
        assert_eq!((&*claimed.user_id, &*claimed.email), (&*phone.user_id, ANA));
        assert_eq!(claimed.requested_at, Some(asked_at.into()));
        let now = service.clock.now();
        assert_eq!(claimed.expires_at, Some((now + Duration::from_mins(30)).into()));
        assert_eq!(claimed.token.len(), "rcm_".len() + 48);

        let answer = mailing.reset(&claimed.token, NEW_PASSWORD).await.unwrap();
        assert_eq!(answer.user_id, phone.user_id);
        assert!(answer.tokens.is_none() && answer.session_id.is_empty() && answer.device_token.is_empty());
        assert_wrong_password(&refused(mailing.log_in(ANA, PASSWORD).await));
        mailing.log_in(ANA, NEW_PASSWORD).await.unwrap();
        for session in [&phone, &laptop] {
            assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
        }
        let events = service.database.events().await.split_off(2);
        let versions: Vec<_> = events.iter().map(|event| event.user_version).collect();
        assert_eq!(versions, [3, 4, 5, 6]);
        let payloads: Vec<_> = events.into_iter().filter_map(|event| event.payload).collect();
        let [Payload::PasswordChanged(changed), Payload::EmailVerified(verified), ..] = &payloads[..]
            else { panic!("other events") };
        assert_eq!(changed.cause().as_str_name(), "PASSWORD_CHANGE_CAUSE_RESET");
        assert_eq!(changed.changed_at, Some(now.into()));
        assert_eq!((&*verified.email, verified.verified_at), (ANA, Some(now.into())));
        let ended = service.database.ended_sessions().await;
        let reason = "SESSION_END_REASON_PASSWORD_RESET";
        assert_eq!(ended, [(phone.id, reason), (laptop.id, reason)]);
        assert_invalid_token(&refused(mailing.reset(&claimed.token, PASSWORD).await));
    }

    async fn a_reset_can_start_a_session_on_a_known_device(mailing: Mailing) {
        let before = mailing.0.sign_up(ANA).await;
        let token = mailing.reset_token(ANA).await;
        let request = proto::ResetPasswordRequest {
            start_session: true,
            device_name: "Ana's phone".to_owned(),
            ..reset(&token, NEW_PASSWORD)
        };
        let answer = mailing.recovery().reset_password(request).await.map(Response::into_inner).unwrap();
        let tokens = answer.tokens.expect("a session was wanted");
        mailing.0.refresh(&tokens.refresh_token).await.unwrap();
        assert_invalid_token(&refused(mailing.0.refresh(&before.tokens.refresh_token).await));
        let mut account = mailing.0.account_with(&tokens.access_token);
        let sessions = account.list_sessions(proto::ListSessionsRequest {}).await.unwrap().into_inner();
        let [session] = &sessions.sessions[..] else { panic!("one session") };
        assert_eq!((&session.session_id, &*session.device_name), (&answer.session_id, "Ana's phone"));
        assert!(answer.device_token.starts_with("rcd_"));
    }

    async fn a_verified_address_is_not_verified_again(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        for password in [NEW_PASSWORD, PASSWORD] {
            mailing.0.clock.advance(DAY);
            let token = mailing.reset_token(ANA).await;
            mailing.reset(&token, password).await.unwrap();
        }
        let events = mailing.0.database.events().await;
        let is_verified = |event: &&proto::UserEvent| matches!(event.payload, Some(Payload::EmailVerified(_)));
        assert_eq!(events.iter().filter(is_verified).count(), 1);
    }

    async fn an_unknown_address_gets_the_same_answer_and_no_mail(mailing: Mailing) {
        for unknown in ["nobody@example.com", "no address", "a\0b", " "] {
            mailing.request_reset(unknown).await.unwrap();
        }
        assert!(mailing.0.database.events().await.is_empty());
        let claimable = "SELECT count(*) FROM mail_requests WHERE user_id IS NOT NULL";
        assert_eq!(mailing.0.database.count(claimable).await, 0);
        let empty = refused(mailing.request_reset("").await);
        assert_eq!(violation(&empty), ("email".to_owned(), "must not be empty".to_owned()));
    }

    async fn a_password_that_is_refused_does_not_use_the_token_up(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        let token = mailing.reset_token(ANA).await;
        let kept = async || {
            let tables = ["users", "sessions", "outbox_events", "mail_requests", "mail_tokens"];
            let mut rows = Vec::new();
            for table in tables {
                rows.push(mailing.0.database.dump(table).await);
            }
            rows
        };
        let before = kept().await;
        for weak in ["password", "ana@example.com", "short", ""] {
            let refused = refused(mailing.reset(&token, weak).await);
            assert_eq!(violation(&refused).0, "new_password");
        }
        assert!(kept().await == before);
        mailing.reset(&token, NEW_PASSWORD).await.unwrap();
    }

    async fn a_token_that_is_none_changes_nothing(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let token = mailing.reset_token(ANA).await;
        let before = everything(&mailing).await;
        let mut flipped = token.clone().into_bytes();
        flipped[10] ^= 1;
        for none in [
            "junk".to_owned(),
            token[..token.len() - 1].to_owned(),
            format!("{token}A"),
            format!(" {token}"),
            String::from_utf8(flipped).unwrap(),
            ana.tokens.refresh_token,
            unknown_token(),
        ] {
            assert_invalid_token(&refused(mailing.reset(&none, NEW_PASSWORD).await));
        }
        assert_eq!(violation(&refused(mailing.reset("", NEW_PASSWORD).await)).0, "reset_token");
        assert!(everything(&mailing).await == before);
    }

    /// The password is weak, so a check of it would be told.
    async fn an_unknown_token_is_refused_before_the_password_is_checked(mailing: Mailing) {
        let status = refused(mailing.reset(&unknown_token(), "password").await);
        assert_invalid_token(&status);
    }

    async fn a_token_has_the_free_uses_of_a_device(database: TestDatabase) {
        let mailing = mailing(database, &["--throttle-free-per-device", "10"]).await;
        mailing.0.sign_up(ANA).await;
        let token = mailing.reset_token(ANA).await;
        for _ in 0..10 {
            assert_eq!(violation(&refused(mailing.reset(&token, "password").await)).0, "new_password");
        }
        let held = refused(mailing.reset(&token, NEW_PASSWORD).await);
        assert_eq!(reason(&held).1, "TOO_MANY_ATTEMPTS");
        mailing.0.clock.advance(Duration::from_secs(1));
        mailing.reset(&token, NEW_PASSWORD).await.unwrap();
    }

    async fn one_of_many_uses_of_a_token_succeeds(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        let token = mailing.reset_token(ANA).await;
        let mut uses = JoinSet::new();
        for _ in 0..100 {
            let (mut recovery, request) = (mailing.recovery(), reset(&token, NEW_PASSWORD));
            uses.spawn(async move { recovery.reset_password(request).await });
        }
        let mut codes = Vec::new();
        for answer in uses.join_all().await {
            match answer {
                Ok(_) => codes.push(Code::Ok),
                Err(status) => codes.push(reason(&status).0),
            }
        }
        let successes = codes.iter().filter(|code| **code == Code::Ok).count();
        assert_eq!(successes, 1, "{codes:?}");
        let changes = "SELECT count(*) FROM outbox_events WHERE event_type = 'PASSWORD_CHANGED'";
        assert_eq!(mailing.0.database.count(changes).await, 1);
    }

    async fn no_token_is_stored_or_published(mailing: Mailing) {
        mailing.0.sign_up(ANA).await;
        let token = mailing.reset_token(ANA).await;
        let encoded = token.strip_prefix("rcm_").unwrap();
        let rows = everything(&mailing).await.concat().join("\n").to_lowercase();
        assert!(rows.contains(ANA), "the address of the request is found");
        for event in mailing.0.database.events().await.split_off(1) {
            let event = String::from_utf8_lossy(&prost::Message::encode_to_vec(&event)).into_owned();
            assert!(!event.contains(ANA) && !event.contains("rcm_"));
        }
        let secret = BASE64URL.decode(encoded).unwrap();
        let secret = crate::harness::hex_of(&secret[..32]);
        for form in [secret, encoded.to_lowercase(), crate::harness::hex_of(encoded.as_bytes())] {
            assert!(!rows.contains(&form));
        }
    }

    async fn the_locale_of_the_request_comes_before_that_of_the_registration(mailing: Mailing) {
        let register = proto::RegisterRequest { locale: "pt-BR".to_owned(), ..crate::harness::register(ANA) };
        mailing.0.client().register(register).await.unwrap();
        let mut locales = Vec::new();
        for locale in ["", "de-CH"] {
            let request = proto::RequestPasswordResetRequest { locale: locale.to_owned(), ..asked(ANA) };
            mailing.recovery().request_password_reset(request).await.unwrap();
            mailing.0.clock.advance(Duration::from_secs(1));
            let last = mailing.requested().await.pop().unwrap();
            locales.push(mailing.claim(&last.request_id).await.unwrap().locale);
        }
        assert_eq!(locales, ["pt-BR", "de-CH"]);
        let request = proto::RequestPasswordResetRequest { locale: "no tag".to_owned(), ..asked(ANA) };
        let refused = refused(mailing.recovery().request_password_reset(request).await);
        assert_eq!(violation(&refused).0, "locale");
    }
}
