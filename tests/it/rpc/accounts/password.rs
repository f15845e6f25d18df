//! `ChangePassword`.

use std::time::Duration;

use auth_service::{
    model::Clock as _,
    proto::{self, user_event::Payload},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;

use super::{NEW_PASSWORD, get_account, kinds, list_sessions};
use crate::harness::{
    PASSWORD, START, Service, TestDatabase, TokenParts, assert_invalid_token,
    assert_wrong_password, both, change_password, change_password_from, end_session, login,
    refused, violation,
};

const CHANGED: &str = "SESSION_END_REASON_PASSWORD_CHANGED";

fn with_password(email: &str, password: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        password: password.to_owned(),
        ..login(email)
    }
}

fn claim(token: &str, name: &str) -> String {
    let claims = token.split('.').nth(1).expect("three parts");
    let claims: Value = serde_json::from_slice(&BASE64URL.decode(claims).unwrap()).unwrap();
    claims[name].as_str().expect("a text").to_owned()
}

async fn everything(database: &TestDatabase) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for table in ["users", "sessions", "outbox_events"] {
        rows.push(database.dump(table).await);
    }
    rows
}

both! {
    async fn a_new_password_ends_every_other_session(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let bob = service.sign_up("bob@example.com").await;
        let phone = service.sign_in("ana@example.com").await;
        service.clock.advance(Duration::from_millis(1));
        let laptop = service.sign_in("ana@example.com").await;
        service.clock.advance(Duration::from_micros(3));
        let changed = service.account(&phone).change_password(change_password(NEW_PASSWORD)).await;
        let next = changed.unwrap().into_inner().tokens.expect("tokens");

        for session in [&ana, &laptop] {
            assert_invalid_token(&refused(service.refresh(&session.tokens.refresh_token).await));
            assert_invalid_token(&refused(get_account(service.account(session)).await));
        }
        assert_eq!(list_sessions(service.account(&phone)).await.len(), 1);
        service.refresh(&next.refresh_token).await.expect("the own session goes on");
        service.refresh(&bob.tokens.refresh_token).await.expect("another user");
        let mut client = service.client();
        assert_wrong_password(&refused(client.login(login("ana@example.com")).await));
        client.login(with_password("ana@example.com", NEW_PASSWORD)).await.expect("the new one");
        client.login(login("bob@example.com")).await.expect("his own");
        let reasons = "SELECT count(*) FROM sessions WHERE revoke_reason = 'password_changed'";
        assert_eq!(service.database.count(reasons).await, 2);

        let events = service.database.events().await.split_off(2);
        let expected = [(2, "PASSWORD_CHANGED"), (3, CHANGED), (4, CHANGED)];
        assert_eq!(kinds(&events), expected);
        let now = service.clock.now();
        assert!(events.iter().all(|event| event.user_id == ana.user_id));
        assert!(events.iter().all(|event| event.occurred_at == Some(now.into())));
        let Some(Payload::PasswordChanged(changed)) = &events[0].payload else { panic!("no") };
        assert_eq!(changed.changed_at, Some(now.into()));
        let ended: Vec<_> = service.database.ended_sessions().await;
        assert_eq!(ended, [(ana.id, CHANGED), (laptop.id, CHANGED)]);
        let account = get_account(service.account(&phone)).await.unwrap();
        assert_eq!(account.password_changed_at, Some(now.into()));
        assert_eq!(account.created_at, Some(START.into()));
    }

    async fn the_own_session_goes_on_with_new_tokens_only(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let retired = ana.tokens.refresh_token.clone();
        let old = service.refresh(&retired).await.unwrap();
        service.clock.advance(Duration::from_secs(10));
        let changed = service.account_with(&old.access_token)
            .change_password(change_password(NEW_PASSWORD)).await;
        let next = changed.unwrap().into_inner().tokens.expect("tokens");
        assert_eq!(claim(&next.access_token, "sid"), ana.id);
        let [old_parts, next_parts] = [&old, &next].map(|tokens| TokenParts::of(&tokens.refresh_token));
        assert_ne!(next_parts.handle, old_parts.handle);
        assert_ne!(next_parts.secret, old_parts.secret);
        let ends = [&ana.tokens, &next].map(|tokens| tokens.refresh_token_expires_at.unwrap().seconds);
        assert_eq!(ends[1], ends[0] + 10, "the sliding end moved");

        // A thief of the old tokens gets nothing, and cannot end the session with them.
        let before = everything(&service.database).await;
        for token in [&old.refresh_token, &retired] {
            assert_invalid_token(&refused(service.refresh(token).await));
            service.log_out(token).await.ok();
        }
        assert!(everything(&service.database).await == before);
        get_account(service.account_with(&next.access_token)).await.expect("the new one");
        get_account(service.account_with(&old.access_token)).await.expect("until it expires");
        let again = service.refresh(&next.refresh_token).await.expect("it is the current one");
        let retried = service.refresh(&next.refresh_token).await.expect("a retry");
        assert_eq!(retried.refresh_token, again.refresh_token);
        let id: uuid::Uuid = ana.id.parse().unwrap();
        service.account_with(&again.access_token)
            .end_session(end_session(&id.to_string())).await.unwrap();
        assert_invalid_token(&refused(service.refresh(&again.refresh_token).await));
    }

    async fn an_older_access_token_that_lives_longer_is_still_announced(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        // As after a start with a shorter ACCESS_TOKEN_TTL.
        let later = START + Duration::from_hours(2);
        let longer = format!("UPDATE sessions SET access_tokens_expire_at = {}", service.database.time(later));
        service.database.execute(&longer).await;
        let changed = service.account(&ana).change_password(change_password(NEW_PASSWORD)).await;
        let next = changed.unwrap().into_inner().tokens.expect("tokens");
        service.log_out(&next.refresh_token).await.unwrap();
        let events = service.database.events().await;
        let Some(Payload::SessionEnded(ended)) = &events[2].payload else { panic!("no") };
        assert_eq!(ended.access_tokens_expire_at, Some(later.into()));
    }

    async fn without_the_current_password_nothing_changes(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        service.sign_in("ana@example.com").await;
        let before = everything(&service.database).await;
        let mut account = service.account(&ana);
        let too_long = PASSWORD.repeat(3);
        for wrong in ["wrong", &PASSWORD.to_uppercase(), &too_long, "nul\0nul", " "] {
            let status = refused(account.change_password(change_password_from(wrong, NEW_PASSWORD)).await);
            assert_wrong_password(&status);
        }
        assert!(everything(&service.database).await == before);
    }

    async fn the_new_password_obeys_the_policy(service: Service) {
        let ana = service.sign_up("rosalind.elsie@example.com").await;
        let before = everything(&service.database).await;
        let mut account = service.account(&ana);
        for (new, problem) in [
            ("", "must not be empty"),
            ("vK3#qT9", "must have at least 8 characters"),
            (&"vK3#qT9z".repeat(10), "must have at most 72 bytes in UTF-8"),
            ("vK3#q\0T9z", "must not contain control characters, such as a line break or a tab"),
            ("password1", "is too easy to guess"),
            ("rosalind.elsie1", "is too easy to guess"),
            ("Realchat!2026", "is too easy to guess"),
            (PASSWORD, "must differ from the current password"),
        ] {
            let status = refused(account.change_password(change_password_from(PASSWORD, new)).await);
            assert_eq!(violation(&status), ("new_password".to_owned(), problem.to_owned()));
        }
        let status = refused(account.change_password(change_password_from("", NEW_PASSWORD)).await);
        let expected = ("current_password".to_owned(), "must not be empty".to_owned());
        assert_eq!(violation(&status), expected);
        assert!(everything(&service.database).await == before);
    }

    async fn the_same_password_in_another_normal_form_is_the_same(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let mut account = service.account(&ana);
        let (composed, decomposed) =
            ("sch\u{f6}ne gr\u{fc}\u{df}e vK3", "scho\u{308}ne gru\u{308}\u{df}e vK3");
        account.change_password(change_password(composed)).await.unwrap();
        let status = refused(account.change_password(change_password_from(composed, decomposed)).await);
        assert_eq!(violation(&status).0, "new_password");
        account.change_password(change_password_from(decomposed, NEW_PASSWORD)).await.expect("it is right");
    }

    async fn each_change_is_later_than_the_one_before(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let mut account = service.account(&ana);
        account.change_password(change_password(NEW_PASSWORD)).await.unwrap();
        service.clock.set(START - Duration::from_secs(5));
        account.change_password(change_password_from(NEW_PASSWORD, PASSWORD)).await.unwrap();
        let account = get_account(service.account(&ana)).await.unwrap();
        let later = START + Duration::from_micros(2);
        assert_eq!(account.password_changed_at, Some(later.into()));
        let mut events = service.database.events().await;
        events.sort_by_key(|event| event.user_version);
        let expected = [(1, "USER_CREATED"), (2, "PASSWORD_CHANGED"), (3, "PASSWORD_CHANGED")];
        assert_eq!(kinds(&events), expected);
        assert_eq!(events[2].occurred_at, Some((START - Duration::from_secs(5)).into()));
    }

    async fn a_new_password_is_hashed_at_the_configured_cost(database: TestDatabase) {
        let service = Service::start(database, &[]).await;
        let ana = service.sign_up("ana@example.com").await;
        let (_, database) = service.stop().await;
        let service = Service::start(database, &["--bcrypt-cost", "11"]).await;
        service.account(&ana).change_password(change_password(NEW_PASSWORD)).await.unwrap();
        let hash = service.database.password_hash("ana@example.com").await;
        assert!(hash.starts_with("$2b$11$"), "{hash}");
    }
}
