//! `users get` and `users list`.

use std::time::Duration;

use auth_service::model::{Clock as _, unicode::is_invisible};
use serde_json::{Value, json};

use super::{ANA, BEN, STRANGER, done, json, service_now, shell, users};
use crate::harness::{TestDatabase, both};

both! {
    async fn get_shows_an_account_by_its_id_and_by_its_address(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let ana = service.sign_up(ANA).await;
        service.sign_in(ANA).await;
        let by_id = done(&service.database, &format!("get {}", ana.user_id)).await;
        let by_email = done(&service.database, "get Ana@Example.com").await;
        assert_eq!(by_id, by_email);
        let lines: Vec<_> = by_id.lines().collect();
        assert_eq!(lines[0], format!("user_id        {}", ana.user_id));
        assert_eq!(lines[1], "email          ana@example.com");
        for line in ["verified       no", "suspended      no", "roles          none (version 0)",
            "live sessions  2", "last event     version 1"] {
            assert!(lines.contains(&line), "{by_id}");
        }
    }

    async fn json_has_the_fields_of_the_proto_and_no_secret(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let id = service.sign_up(ANA).await.user_id;
        let now = service.clock.now().to_string();
        let expected = json!({
            "user_id": id, "email": ANA, "created_at": now, "password_changed_at": now,
            "roles": [], "roles_version": 0, "sessions": 1, "event_version": 1,
        });
        assert_eq!(json(&service.database, "get ana@example.com").await, expected);

        done(&service.database, "set-roles ana@example.com moderator billing").await;
        done(&service.database, "suspend ana@example.com --reason spam --until 7d").await;
        done(&service.database, "invalidate-password ana@example.com").await;
        let account = json(&service.database, "get ana@example.com").await;
        assert_eq!(account["roles"], json!(["moderator", "billing"]));
        assert_eq!(account["roles_version"], 1);
        assert_eq!(account["sessions"], 0);
        assert_eq!(account["suspension"]["reason"], "spam");
        assert!(account["suspension"]["since"].is_string() && account["suspension"]["until"].is_string());
        assert_eq!(account.get("password_changed_at"), None, "no usable password");
        let text = done(&service.database, "get ana@example.com").await;
        for line in ["roles          moderator,billing (version 1)", "password set   no usable password"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains(": spam\n"), "{text}");
    }

    async fn list_shows_all_accounts_in_columns_and_as_json_lines(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let empty = done(&service.database, "list").await;
        assert_eq!(empty.lines().count(), 1, "{empty}");
        assert_eq!(done(&service.database, "list --json").await, "");

        let mut ids = Vec::new();
        for email in [ANA, "a.longer.address@example.com", BEN] {
            ids.push(service.sign_up(email).await.user_id);
            service.clock.advance(Duration::from_secs(1));
        }
        done(&service.database, "suspend ben@example.com --reason spam").await;
        let text = done(&service.database, "list").await;
        let column = |name: &str| text.find(name).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for (line, (id, suspended)) in lines[1..].iter().zip(ids.iter().zip(["no", "no", "until restored"])) {
            assert!(line.starts_with(id.as_str()), "{text}");
            assert_eq!(&line[column("SUSPENDED")..], suspended);
        }
        let json = done(&service.database, "list --json").await;
        let listed: Vec<Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(listed.iter().map(|user| user["user_id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
        assert_eq!(listed[2]["suspension"]["reason"], "spam");
    }

    async fn list_reads_page_after_page_and_ends_quietly_without_a_reader(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let ana = service.sign_up(ANA).await.user_id;
        copy_account(&service.database, 1200).await;
        let listed = done(&service.database, "list --json").await;
        let mut ids: Vec<_> = listed.lines().map(|line| line[12..48].to_owned()).collect();
        assert_eq!(ids.len(), 1201);
        ids.dedup();
        assert!(ids.len() == 1201 && ids.is_sorted() && ids.contains(&ana));

        let stderr = shell(&service.database, "{ $users list; echo $? >&2; } | head -1").await;
        let quiet: Vec<_> = stderr.lines().filter(|line| !line.contains("list_users")).collect();
        assert_eq!(quiet, ["0"]);
    }

    async fn stored_control_characters_do_not_reach_a_terminal(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let id = service.sign_up(ANA).await.user_id;
        let (email, device) = ("ana\u{1b}[2J\u{9b}2J\u{202e}@example.com", "my\u{1b}]0;x\u{7}\u{9b}phone");
        service.database.execute(&format!("UPDATE users SET email = '{email}'")).await;
        service.database.execute(&format!("UPDATE sessions SET device_name = '{device}'")).await;
        for command in [format!("get {id}"), "list".to_owned(), format!("get {id} --json"), "list --json".to_owned(),
            "export -".to_owned(), format!("export - --user {id}")] {
            let output = done(&service.database, &command).await;
            assert!(!output.contains(|c| c != '\n' && is_invisible(c)), "{command}: {output:?}");
            if output.starts_with('{') {
                let shown: Value = serde_json::from_str(&output).unwrap();
                assert_eq!(shown["email"], email, "{command}");
            }
        }
    }

    async fn an_unknown_user_is_a_failure_of_each_act(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        for user in [STRANGER, "nobody@example.com"] {
            for command in ["get", "suspend --reason x", "restore", "end-sessions", "send-reset",
                "invalidate-password", "unlock", "set-roles", "delete --yes"] {
                let (name, rest) = command.split_once(' ').unwrap_or((command, "--json"));
                let ended = users(&service.database, &format!("{name} {user} {rest}")).await;
                assert_eq!(ended.code, Some(1), "{command} {user}");
                assert!(ended.stderr.ends_with("there is no such user\n"), "{}", ended.stderr);
                assert!(ended.stderr.contains(r#""reason":"unknown_user""#), "{}", ended.stderr);
                assert!(ended.stdout.is_empty() && !ended.stderr.contains("nobody@"));
            }
        }
    }
}

/// Makes more accounts with the data of the first one.
pub(super) async fn copy_account(database: &TestDatabase, count: usize) {
    let numbers = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
    );
    let id = database.dialect("randomblob(16)", "gen_random_uuid()");
    let sql = format!(
        "{numbers} INSERT INTO users (id, email, password_hash, event_version, created_at, \
         password_changed_at) SELECT {id}, 'copy' || n || '@example.com', password_hash, 1, \
         created_at, password_changed_at FROM users, numbers"
    );
    database.execute(&sql).await;
}
