//! `users export`: files of all accounts, and the data of one user.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use auth_service::model::Clock as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ANA, BEN, done, service_now, shell, show::copy_account, users, users_with_key};
use crate::harness::{Backend, DATA_KEY, Held, Process, TestDatabase, WAITING, both};

const OTHER_KEY: &str = "another-data-key-of-at-least-32-bytes";

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

both! {
    async fn an_export_has_all_accounts_without_hashes(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let ana = service.sign_up(ANA).await.user_id;
        let created = service.clock.now().to_string();
        service.clock.advance(std::time::Duration::from_secs(1));
        service.sign_up(BEN).await;
        done(&service.database, "set-roles ana@example.com moderator").await;
        let verified = service.database.time(service.clock.now());
        let verify = format!("UPDATE users SET email_verified_at = {verified} WHERE email = '{ANA}'");
        service.database.execute(&verify).await;
        done(&service.database, "suspend ben@example.com --reason spam").await;

        let exported = users(&service.database, "export -").await;
        assert_eq!(exported.code, Some(0));
        let expected = "exported accounts: 2, suspended: 1, which the file does not say. ";
        assert!(exported.stderr.contains(expected), "{}", exported.stderr);
        let first = json!({
            "user_id": ana, "email": ANA, "email_verified_at": service.clock.now().to_string(),
            "created_at": created, "roles": ["moderator"],
        });
        let lines = lines(&exported.stdout);
        assert_eq!((lines.len(), &lines[0]), (2, &first));
        assert_eq!(lines[1].as_object().unwrap().keys().collect::<Vec<_>>(), ["created_at", "email", "user_id"]);
    }

    async fn hashes_are_opened_into_a_file_that_only_its_owner_reads(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("users.jsonl");
        let command = format!("export {} --with-hashes --json", file.display());
        let exported = users(&service.database, &command).await;
        assert_eq!(exported.code, Some(0), "{}", exported.stderr);
        assert!(exported.stderr.contains("WARNING: this file will hold the password hashes"));
        assert!(exported.stderr.contains(r#""event":"export_users","outcome":"ok","reason":"with password hashes""#),
            "{}", exported.stderr);
        assert_eq!(serde_json::from_str::<Value>(&exported.stdout).unwrap(), json!({"exported": 1, "suspended": 0}));
        let text = fs::read_to_string(&file).unwrap();
        let hash = service.database.password_hash(ANA).await;
        assert_eq!(lines(&text)[0]["password_hash"], hash.as_str());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        service.sign_up(BEN).await;
        let again = users(&service.database, &command).await;
        assert_eq!(again.code, Some(1));
        assert!(again.stderr.contains("users.jsonl exists, and is not overwritten"), "{}", again.stderr);
        assert_eq!((fs::read_to_string(&file).unwrap(), names(folder.path())), (text, vec!["users.jsonl".to_owned()]));
    }

    async fn a_hash_of_an_unknown_key_stops_the_export_and_is_named(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        let ben = service.sign_up(BEN).await.user_id;
        // A seal that belongs to another user.
        let copy = format!("UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = '{ANA}')");
        service.database.execute(&copy).await;
        let folder = TempDir::new().unwrap();
        let export = async |options: &str| {
            let file = folder.path().join("users.jsonl");
            users(&service.database, &format!("export {}{options}", file.display())).await
        };
        let ended = export(" --with-hashes").await;
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains(&format!("the password hash of user {ben} cannot be read")), "{}", ended.stderr);
        assert!(names(folder.path()).is_empty());
        assert_eq!(export("").await.code, Some(0), "without hashes nothing is opened");
        fs::remove_file(folder.path().join("users.jsonl")).unwrap();
        done(&service.database, &format!("invalidate-password {ben}")).await;
        assert_eq!(export(" --with-hashes").await.code, Some(0), "the way out of a damaged row");
        let wrong = users_with_key(&service.database, "export -", OTHER_KEY).await;
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    }

    async fn the_data_of_one_user_is_complete_and_has_no_secret(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let session = service.sign_up(ANA).await;
        let live = service.sign_in(ANA).await;
        service.sign_up(BEN).await;
        service.log_out(&session.tokens.refresh_token).await.unwrap();
        done(&service.database, "set-roles ana@example.com moderator").await;
        done(&service.database, "send-reset ana@example.com").await;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("ana.json");
        done(&service.database, &format!("export {} --user {ANA}", file.display())).await;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        let data: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&data["user_id"], &data["email"]), (&json!(session.user_id), &json!(ANA)));
        assert_eq!((&data["roles"], &data["roles_version"]), (&json!(["moderator"]), &json!(1)));
        let sessions = data["sessions"].as_array().unwrap();
        let of = |id: &str| sessions.iter().find(|found| found["session_id"] == id).unwrap();
        assert_eq!((sessions.len(), &of(&live.id)["live"]), (2, &json!(true)));
        assert_eq!((&of(&session.id)["live"], &of(&session.id)["end_reason"]), (&json!(false), &json!("logout")));
        let mails = data["mails"].as_array().unwrap();
        assert_eq!((mails.len(), &mails[0]["purpose"], &mails[0]["email"]), (1, &json!("reset_password"), &json!(ANA)));
        let events = data["events"].as_array().unwrap();
        let types: Vec<_> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
        assert_eq!(types, ["USER_CREATED", "SESSION_ENDED", "ROLES_CHANGED", "MAIL_REQUESTED"]);
        assert_eq!((&events[0]["data"]["email"], &events[0]["actor"]), (&json!(ANA), &json!("user")));
        assert_eq!(events[1]["data"]["reason"], "SESSION_END_REASON_LOGOUT");
        assert_eq!((&events[2]["data"]["roles"], &events[2]["actor"]), (&json!(["moderator"]), &json!("admin:cli")));
        assert_eq!(events[3]["data"]["request_id"], mails[0]["mail_request_id"]);
        for secret in ["hash", "rcm_", &live.tokens.refresh_token, "sealed", "$2", BEN] {
            assert!(!text.contains(secret), "{secret}");
        }
        let shown = json_of(&done(&service.database, &format!("export - --user {}", session.user_id)).await);
        assert_eq!(shown, data);
        // A mail that was asked for before the address had an account.
        service.database.execute("UPDATE mail_requests SET user_id = NULL").await;
        let data = json_of(&done(&service.database, &format!("export - --user {ANA}")).await);
        assert_eq!(data["mails"].as_array().unwrap().len(), 1);
        let unknown = users(&service.database, "export - --user nobody@example.com").await;
        assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    }

    /// A table with data of users that is new here belongs into the document. But `revocations`
    /// says only what the sessions say, and for an hour.
    async fn the_data_of_one_user_reads_all_tables_about_users(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let tables = service.database.dialect(
            "SELECT group_concat(name) FROM (SELECT m.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c \
             WHERE m.type = 'table' AND c.name = 'user_id' ORDER BY m.name)",
            "SELECT string_agg(table_name, ',' ORDER BY table_name) FROM information_schema.columns \
             WHERE table_schema = current_schema() AND column_name = 'user_id'",
        );
        assert_eq!(service.database.text(tables).await.unwrap(), "mail_requests,outbox_events,revocations,sessions");
    }

    async fn an_output_that_takes_not_all_is_a_failure(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        copy_account(&service.database, 1200).await;
        for (script, why) in [
            ("{ $users export -; echo $? >&2; } | head -1", "Broken pipe (os error 32)"),
            ("$users export - > /dev/full; echo $? >&2", "No space left on device (os error 28)"),
        ] {
            let stderr = shell(&service.database, script).await;
            let expected = format!("cannot write to the standard output: {why}\n1\n");
            assert!(stderr.ends_with(&expected), "{stderr}");
        }
    }

    async fn a_killed_export_is_named_by_the_next_one(database: TestDatabase) {
        if database.backend() == Backend::Sqlite {
            return;
        }
        let service = service_now(database, &[]).await;
        let id = service.sign_up(ANA).await.user_id;
        let held = Held::begin(&service.database, "LOCK TABLE sessions").await;
        let folder = TempDir::new().unwrap();
        let url = service.database.direct_url();
        let variables = [("DATABASE_URL", url.as_str()), ("DATA_KEY", DATA_KEY)];
        let mut process = Process::start(folder.path(), &["users", "export", "ana.json", "--user", &id], &variables);
        service.database.wait_for(WAITING, 1).await;
        process.signal("KILL");
        process.killed_by().await;
        drop(held);
        let file = folder.path().join("ana.json");
        let command = format!("export {} --user {id}", file.display());
        let refused = users(&service.database, &command).await;
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("ana.json.partial exists: another export writes it, or one was killed"), "{}", refused.stderr);
        fs::remove_file(folder.path().join("ana.json.partial")).unwrap();
        done(&service.database, &command).await;
        assert_eq!(names(folder.path()), ["ana.json"]);
    }

    async fn a_stopped_export_leaves_no_file(database: TestDatabase) {
        if database.backend() == Backend::Sqlite {
            // Its lock would also stop the commands before they make the file.
            return;
        }
        let service = service_now(database, &[]).await;
        let id = service.sign_up(ANA).await.user_id;
        let _held = Held::begin(&service.database, "LOCK TABLE sessions").await;
        let folder = TempDir::new().unwrap();
        let url = service.database.direct_url();
        let variables = [("DATABASE_URL", url.as_str()), ("DATA_KEY", DATA_KEY)];
        let arguments = ["users", "export", "ana.json", "--user", &id];
        for signal in ["TERM", "INT"] {
            let mut process = Process::start(folder.path(), &arguments, &variables);
            service.database.wait_for(WAITING, 1).await;
            assert_eq!(names(folder.path()), ["ana.json.partial"]);
            process.signal(signal);
            assert_eq!(process.exit_code().await, Some(1));
            process.wait_for("ended before the command was done").await;
            assert!(names(folder.path()).is_empty(), "{signal}");
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
            service.database.execute(end).await;
            // It takes a moment to end, and would be taken for the next one.
            service.database.wait_for(WAITING, 0).await;
        }
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
