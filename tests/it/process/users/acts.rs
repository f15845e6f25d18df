//! The acts on one account, and what follows from them.

use std::time::Duration;

use auth_service::{
    model::{Clock as _, Timestamp},
    proto::{
        LoginRequest, PasswordChangeCause, SessionEndReason,
        user_event::Payload::{
            MailRequested, PasswordChanged, RolesChanged, SessionEnded, UserDeleted, UserRestored,
            UserSuspended,
        },
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use tonic::Code;

use super::{ANA, BEN, done, events_of_cli, json, service_now, users};
use crate::harness::{
    Process, Service, TestDatabase, assert_wrong_password, both, login, reason, refused, settings,
};

const COUNT: &str = "SELECT count(*) FROM users";

async fn log_in(service: &Service, email: &str) -> Result<(), (Code, String)> {
    let answer = service.client().login(login(email)).await;
    answer.map(drop).map_err(|status| reason(&status))
}

both! {
    async fn a_suspended_user_is_out_until_restored(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let session = service.sign_up(ANA).await;
        let database = &service.database;
        assert_eq!(json(database, "suspend ana@example.com --reason spam").await, json!({"user_id": session.user_id}));
        let suspended = Err((Code::PermissionDenied, "ACCOUNT_SUSPENDED".to_owned()));
        assert_eq!(log_in(&service, ANA).await, suspended);
        assert!(service.refresh(&session.tokens.refresh_token).await.is_err());
        let mail = users(database, "send-reset ana@example.com").await;
        assert_eq!(mail.code, Some(1));
        assert!(mail.stderr.ends_with("the account is suspended\n"), "{}", mail.stderr);

        let text = done(database, "restore ana@example.com").await;
        assert_eq!(text, format!("{} is not suspended\n", session.user_id));
        assert_eq!(log_in(&service, ANA).await, Ok(()));
        let events = events_of_cli(database).await;
        let [UserSuspended(suspended), SessionEnded(ended), UserRestored(_)] = &events[..] else {
            panic!("{} events", events.len())
        };
        assert_eq!((suspended.reason.as_str(), suspended.until), ("spam", None));
        assert!(ended.reason() == SessionEndReason::Suspended);
    }

    async fn a_suspension_ends_at_a_time_or_after_a_duration(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        let until = async |until: &str| {
            let command = format!("suspend ana@example.com --reason x --until {until}");
            done(&service.database, &command).await;
            let account = json(&service.database, "get ana@example.com").await;
            Timestamp::parse(account["suspension"]["until"].as_str().unwrap()).unwrap()
        };
        let exact = Timestamp::parse("2096-12-31T00:00:00Z").unwrap();
        assert_eq!(until("2096-12-31T00:00:00Z").await, exact);
        assert_eq!(until("2096-12-31T05:30:00+05:30").await, exact);
        let week = Duration::from_hours(7 * 24);
        let end = until("7d").await;
        let before = service.clock.now() + week;
        assert!(before <= end && end.since(before) < Duration::from_mins(5));
    }

    async fn sessions_end_one_by_one_or_all_together(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let sessions = [service.sign_up(ANA).await, service.sign_in(ANA).await, service.sign_in(ANA).await];
        let one = format!("end-sessions ana@example.com --session {}", sessions[1].id);
        let id = &sessions[0].user_id;
        for ended in [1, 0] {
            assert_eq!(json(&service.database, &one).await, json!({"user_id": id, "ended": ended}));
        }
        let mut live = Vec::new();
        for session in &sessions {
            live.push(service.account(session).get_account(auth_service::proto::GetAccountRequest {}).await.is_ok());
        }
        assert_eq!(live, [true, false, true]);
        let text = done(&service.database, "end-sessions ana@example.com").await;
        assert_eq!(text, format!("{id} ended sessions: 2\n"));
        for event in events_of_cli(&service.database).await {
            let SessionEnded(ended) = event else { panic!("another event") };
            assert!(ended.reason() == SessionEndReason::EndedByAdmin);
        }
        assert_eq!(log_in(&service, ANA).await, Ok(()));
    }

    async fn access_tokens_of_ended_sessions_expire_by_the_configured_time(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        // As a release before wrote the row: then the variable is the bound.
        service.database.execute("UPDATE sessions SET access_tokens_expire_at = NULL").await;
        done(&service.database, "--access-token-ttl 2h end-sessions ana@example.com").await;
        let events = events_of_cli(&service.database).await;
        let [SessionEnded(ended)] = &events[..] else { panic!("{} events", events.len()) };
        let expected = service.clock.now() + Duration::from_hours(2);
        assert!(ended.access_tokens_expire_at.unwrap().seconds >= expected.as_secs());
    }

    async fn resets_go_to_the_mailer_and_show_no_token(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        let text = done(&service.database, "send-reset ana@example.com").await;
        assert!(!text.contains("rcm_"), "{text}");
        done(&service.database, "invalidate-password ana@example.com").await;
        let refusal = refused(service.client().login(login(ANA)).await);
        assert_wrong_password(&refusal);
        let events = events_of_cli(&service.database).await;
        let [MailRequested(_), PasswordChanged(changed), SessionEnded(_), MailRequested(_)] = &events[..] else {
            panic!("{} events", events.len())
        };
        assert!(changed.cause() == PasswordChangeCause::Invalidated);
    }

    async fn unlock_forgets_failed_logins(database: TestDatabase) {
        let service = service_now(database, &["--throttle-free-per-account", "2"]).await;
        service.sign_up(ANA).await;
        for _ in 0..2 {
            let password = "not the password".to_owned();
            let wrong = LoginRequest { password, ..login(ANA) };
            assert_wrong_password(&refused(service.client().login(wrong).await));
        }
        let held = Err((Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".to_owned()));
        assert_eq!(log_in(&service, ANA).await, held);
        done(&service.database, "unlock ana@example.com").await;
        assert_eq!(log_in(&service, ANA).await, Ok(()));
    }

    async fn roles_are_replaced_and_removed(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let id = service.sign_up(ANA).await.user_id;
        let set = json(&service.database, "set-roles ana@example.com moderator billing:read").await;
        assert_eq!(set, json!({"user_id": id, "roles_version": 1}));
        assert_eq!(roles_in_token(&service).await, json!(["moderator", "billing:read"]));
        let text = done(&service.database, "set-roles ana@example.com").await;
        assert_eq!(text, format!("{id} has the roles: none (version 2)\n"));
        assert_eq!(roles_in_token(&service).await, Value::Null);
        let events = events_of_cli(&service.database).await;
        assert!(matches!(&events[..], [RolesChanged(_), RolesChanged(last)] if last.roles.is_empty()));
    }

    async fn a_deletion_needs_consent(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        let ben = service.sign_up(BEN).await.user_id;
        let refused = users(&service.database, "delete ben@example.com").await;
        assert_eq!(refused.code, Some(64));
        assert_eq!(refused.stderr, "the deletion cannot be undone: confirm it with --yes\n");
        for (answer, code, left) in [("no\n", 1, 2), ("ben@example.com\n", 0, 1)] {
            let (ended, output) = on_a_terminal(&service.database, "delete ben@example.com", answer).await;
            assert!(output.contains(&format!("Delete ben@example.com ({ben}) for good?")), "{output}");
            assert_eq!((ended, service.database.count(COUNT).await), (Some(code), left), "{output}");
        }
        done(&service.database, "delete ana@example.com --yes").await;
        assert_eq!(service.database.count(COUNT).await, 0);
        let deleted = |event: &_| matches!(event, UserDeleted(_));
        assert_eq!(events_of_cli(&service.database).await.iter().filter(|event| deleted(event)).count(), 2);
    }

    async fn each_act_has_an_audit_line(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let id = service.sign_up(ANA).await.user_id;
        for (command, event) in [("get", "get_user"), ("unlock", "unlock_user"), ("set-roles", "set_roles")] {
            let stderr = users(&service.database, &format!("{command} ana@example.com --log off")).await.stderr;
            let line: Value = serde_json::from_str(&stderr).unwrap();
            let fields = ["target", "event", "outcome", "caller", "user_id"].map(|name| line[name].as_str().unwrap());
            assert_eq!(fields, ["audit", event, "ok", "cli", &id]);
            assert!(!stderr.contains("example.com"), "{stderr}");
        }
    }
}

/// The claim `roles` of the next login.
async fn roles_in_token(service: &Service) -> Value {
    let token = service.sign_in(ANA).await.tokens.access_token;
    let claims = BASE64URL.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["roles"].take()
}

async fn on_a_terminal(
    database: &TestDatabase,
    command: &str,
    typed: &str,
) -> (Option<i32>, String) {
    let url = database.url();
    let arguments: Vec<_> = ["users"].into_iter().chain(command.split(' ')).collect();
    Process::run_on_terminal(&arguments, &settings(&url, &[]), typed).await
}
