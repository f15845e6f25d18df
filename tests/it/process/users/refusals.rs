//! Wrong usage, and databases that the commands do not touch.

use std::fs;

use tempfile::TempDir;

use super::{ANA, service_now, shell, users, users_with_key};
use crate::harness::{DATA_KEY, Process, TestDatabase, both};

const ID: &str = "0190b2a4-7f3c-7d2d-905e-1beca7432624";

both! {
    async fn a_wrong_data_key_is_refused(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        for command in ["list", "delete ana@example.com --yes"] {
            let ended = users_with_key(&service.database, command, "another-data-key-of-at-least-32-bytes").await;
            assert_eq!(ended.code, Some(1));
            assert!(ended.stderr.starts_with("DATA_KEY: the passwords in the database have the seal of another key"),
                "{}", ended.stderr);
        }
        assert_eq!(service.database.count("SELECT count(*) FROM users").await, 1);
    }

    async fn messages_that_nobody_can_read_change_no_exit_code(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        for (command, code) in [("migrate", 0), ("users get nobody@example.com", 1), ("users", 64)] {
            for script in [
                format!("$service {command} > /dev/full 2> /dev/full; echo $? >&2"),
                format!("{{ $service {command} 2>&1; echo $? >&3; }} 3>&2 | true"),
            ] {
                let said = shell(&service.database, &script).await;
                assert_eq!(said, format!("{code}\n"), "{script}");
            }
        }
    }

    async fn a_schema_of_another_version_is_refused(database: TestDatabase) {
        if let Some(file) = database.sqlite_file() {
            fs::write(file, "").unwrap();
        }
        let ended = users(&database, "list").await;
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.stderr, "the database lacks migrations: run `auth-service migrate`\n");

        let url = database.url();
        let migrated = Process::run(&std::env::temp_dir(), &["migrate"], &[("DATABASE_URL", &url)]).await;
        assert_eq!(migrated.code, Some(0), "{}", migrated.stderr);
        assert_eq!(users(&database, "list").await.code, Some(0));
        database
            .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000001')")
            .await;
        let ended = users(&database, "list").await;
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("20991231000001"), "{}", ended.stderr);
    }

    async fn wrong_usage_is_64_and_is_not_repeated(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        for (command, what) in [
            ("get", "<USER>"),
            ("get zzz", "<USER>: must be the id (a UUID) or the e-mail address of an account"),
            ("get zzz@", "<USER>: must be an e-mail address"),
            ("restore zzz@@example.com", "<USER>: "),
            ("suspend ana@example.com", "--reason <TEXT>"),
            ("suspend ana@example.com --reason ", "--reason <TEXT>: must not be empty"),
            ("suspend ana@example.com --reason x --until zzz", "--until <TIME>: must be a duration"),
            ("suspend ana@example.com --reason x --until 5M", "--until <TIME>: must not be in months"),
            ("suspend ana@example.com --reason x --until 2026-12-31", "2026-12-31T00:00:00Z"),
            ("suspend ana@example.com --reason x --until 2020-01-01T00:00:00Z", "until: must be in the future"),
            ("end-sessions ana@example.com --session zzz", "--session <ID>: must be the id (a UUID) of a session"),
            ("set-roles ana@example.com Zzz", "ROLE: must each have 1 to 64 characters"),
            (&format!("set-roles {ID} {}", (0..21).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")), "ROLE: must be at most 20"),
            ("export - --with-hashes", "--with-hashes writes into a file only"),
            ("export  --with-hashes", "<FILE>: must not be empty"),
            ("export /tmp/zzz --with-hashes --user ana@example.com", "cannot be used with"),
            ("frobnicate", "frobnicate"),
        ] {
            let ended = users(&service.database, command).await;
            assert_eq!(ended.code, Some(64), "{command}: {}", ended.stderr);
            assert!(ended.stderr.contains(what), "{command}: {}", ended.stderr);
            assert!(!ended.stderr.contains("zz@") && ended.stdout.is_empty(), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn looking_for_users_makes_nothing() {
    let folder = TempDir::new().unwrap();
    let key = ("DATA_KEY", DATA_KEY);
    for (variables, what) in [
        (
            &[("DATABASE_URL", "sqlite://auth.db"), key][..],
            "DATABASE_URL: names a file that does not exist",
        ),
        (
            &[],
            "DATABASE_URL: is not set, and there is no data/auth.db here",
        ),
        (
            &[("DATABASE_URL", "sqlite://auth.db")],
            "DATA_KEY: is required when DATABASE_URL is set",
        ),
        (&[key, ("ACCESS_TOKEN_TTL", "never")], "ACCESS_TOKEN_TTL: "),
    ] {
        let ended = Process::run(folder.path(), &["users", "list"], variables).await;
        assert_eq!(ended.code, Some(64));
        assert!(ended.stderr.contains(what), "{}", ended.stderr);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_database_without_its_key_is_refused_and_gets_none() {
    let folder = TempDir::new().unwrap();
    let run = async |arguments: &[&str]| Process::run(folder.path(), arguments, &[]).await;
    assert_eq!(run(&["migrate"]).await.code, Some(0));
    let ended = run(&["users", "list"]).await;
    assert_eq!(ended.code, Some(64));
    assert_eq!(
        ended.stderr,
        "DATA_KEY: is not set, and there is no data/data-key here\n"
    );
    let names = fs::read_dir(folder.path().join("data")).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name());
    assert!(!names.any(|name| name == "data-key"));
}
