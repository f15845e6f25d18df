use auth_service::proto::{self, user_event::Payload};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use tonic::Code;

use super::ANA;
use crate::{
    harness::{both, change_password, reason, refused, violation},
    rpc::{
        accounts::get_account,
        recovery::{Mailing, NEW_PASSWORD},
    },
};

/// The claim `roles`.
fn roles_of(access_token: &str) -> Value {
    let claims = access_token.split('.').nth(1).expect("a JWT");
    let claims = BASE64URL.decode(claims).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    claims["roles"].clone()
}

both! {
    async fn tokens_have_the_roles_from_the_next_login_or_refresh_on(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        assert_eq!(roles_of(&ana.tokens.access_token), Value::Null, "none: no claim");
        mailing.set_roles(&ana.user_id, &["moderator", "billing:read"], 0).await.unwrap();
        let expected = json!(["moderator", "billing:read"]);
        let refreshed = mailing.0.refresh(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(roles_of(&refreshed.access_token), expected);
        let retried = mailing.0.refresh(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(roles_of(&retried.access_token), expected, "a retry");
        assert_eq!(roles_of(&mailing.0.sign_in(ANA).await.tokens.access_token), expected);
        let account = get_account(mailing.0.account(&ana)).await.unwrap();
        assert_eq!(account.roles, ["moderator", "billing:read"]);

        mailing.set_roles(&ana.user_id, &[], 0).await.unwrap();
        let next = mailing.0.refresh(&refreshed.refresh_token).await.unwrap();
        assert_eq!(roles_of(&next.access_token), Value::Null);
        assert!(mailing.user(&ana.user_id).await.roles.is_empty());
    }

    async fn every_other_new_token_has_the_roles_too(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.set_roles(&ana.user_id, &["moderator"], 0).await.unwrap();
        let changed = mailing.0.account(&ana).change_password(change_password(NEW_PASSWORD)).await;
        let tokens = changed.unwrap().into_inner().tokens.unwrap();
        assert_eq!(roles_of(&tokens.access_token), json!(["moderator"]));
        let request = proto::ResetPasswordRequest {
            reset_token: mailing.reset_token(ANA).await,
            new_password: "tidal copper violin seventeen".to_owned(),
            start_session: true,
            ..Default::default()
        };
        let reset = mailing.recovery().reset_password(request).await.unwrap().into_inner();
        assert_eq!(roles_of(&reset.tokens.unwrap().access_token), json!(["moderator"]));
    }

    async fn roles_are_set_only_at_the_expected_version(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        assert_eq!(mailing.user(&ana.user_id).await.roles_version, 0);
        assert_eq!(mailing.set_roles(&ana.user_id, &["a"], 0).await.unwrap(), 1);
        assert_eq!(mailing.set_roles(&ana.user_id, &["b"], 1).await.unwrap(), 2);
        for stale in [1, 3] {
            let status = refused(mailing.set_roles(&ana.user_id, &["c"], stale).await);
            assert_eq!(reason(&status), (Code::Aborted, "VERSION_CONFLICT".to_owned()));
        }
        let user = mailing.user(&ana.user_id).await;
        assert_eq!((user.roles, user.roles_version), (vec!["b".to_owned()], 2));
        let changes: Vec<_> = mailing.payloads().await.into_iter().filter_map(|payload| match payload {
            Payload::RolesChanged(changed) => Some((changed.roles.join(","), changed.version)),
            _ => None,
        }).collect();
        assert_eq!(changes, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    }

    async fn of_two_changes_from_one_version_one_succeeds(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        mailing.set_roles(&ana.user_id, &["a"], 0).await.unwrap();
        let held = mailing.hold().await;
        let (one, other, ()) = tokio::join!(
            mailing.set_roles(&ana.user_id, &["b"], 1),
            mailing.set_roles(&ana.user_id, &["c"], 1),
            mailing.release(held, 2),
        );
        assert_eq!([one, other].iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!(mailing.user(&ana.user_id).await.roles_version, 2);
    }

    async fn malformed_roles_are_refused(mailing: Mailing) {
        let ana = mailing.0.sign_up(ANA).await;
        let many: Vec<_> = (0..21).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let long = "x".repeat(65);
        for roles in [&["Admin"][..], &[""], &["a b"], &["a,b"], &["-a"], &[&long], &many] {
            let status = refused(mailing.set_roles(&ana.user_id, roles, 0).await);
            assert_eq!(violation(&status).0, "roles", "{roles:?}");
        }
        let negative = refused(mailing.set_roles(&ana.user_id, &["a"], -1).await);
        assert_eq!(violation(&negative).0, "expected_version");
        mailing.set_roles(&ana.user_id, &many[..20], 0).await.unwrap();
        mailing.set_roles(&ana.user_id, &["a", "b", "a"], 0).await.unwrap();
        assert_eq!(mailing.user(&ana.user_id).await.roles, ["a", "b"]);
    }
}
