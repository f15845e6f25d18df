//! `users import`.

use std::{fs, io, path::Path, process::Command};

use auth_service::proto::user_event::Payload::UserCreated;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::unix::pipe;

use super::{ANA, BEN, STRANGER, done, json, service_now, shell, users, users_with_key};
use crate::harness::{
    DATA_KEY, Ended, PASSWORD, Process, Service, TestDatabase, USERS, both, eventually, login,
    settings,
};

const OTHER_KEY: &str = "another-data-key-of-at-least-32-bytes";
const CREATED: &str =
    "SELECT count(*) FROM outbox_events WHERE event_type = 'USER_CREATED' AND user_version = 1";

/// A hash of [`PASSWORD`] as another system would have it.
fn hash() -> String {
    bcrypt::hash_with_result(PASSWORD, 4)
        .unwrap()
        .format_for_version(bcrypt::Version::TwoA)
}

async fn import(database: &TestDatabase, content: &[u8], options: &str) -> Ended {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("users.jsonl");
    fs::write(&file, content).unwrap();
    users(database, &format!("import {}{options}", file.display())).await
}

async fn logs_in(service: &Service, email: &str) -> bool {
    service.client().login(login(email)).await.is_ok()
}

/// An empty database with the tables.
async fn migrated(database: TestDatabase) -> TestDatabase {
    let url = database.url();
    let ended = Process::run(
        &std::env::temp_dir(),
        &["migrate"],
        &[("DATABASE_URL", &url)],
    )
    .await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    database
}

fn variables(url: &str) -> [(&str, &str); 2] {
    [("DATABASE_URL", url), ("DATA_KEY", DATA_KEY)]
}

/// Lines of accounts without passwords.
fn many(count: usize) -> String {
    let line = |n| format!("{{\"email\": \"user{n}@example.com\"}}\n");
    (0..count).map(line).collect()
}

both! {
    async fn imported_users_log_in_and_an_import_can_be_repeated(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let file = format!(
            "\u{FEFF}{}\r\n\n   \n{}\n{}",
            json!({
                "user_id": STRANGER, "email": "Ana@Example.com", "password_hash": hash(),
                "email_verified_at": "2024-03-05T09:14:22.5+00:00",
                "created_at": "2024-03-05T09:12:03Z", "roles": ["moderator"],
            }),
            json!({"email": BEN, "password_hash": hash(), "user_id": null, "roles": null}),
            json!({"email": "cy@example.com"}),
        );
        let first = import(&service.database, file.as_bytes(), "").await;
        assert_eq!((first.code, first.stdout.as_str()), (Some(0), "created: 3, unchanged: 0, rejected: 0\n"));
        assert!(first.stderr.contains(r#""event":"import_users","outcome":"ok","caller":"cli""#), "{}", first.stderr);
        for (email, logs) in [(ANA, true), (BEN, true), ("cy@example.com", false)] {
            assert_eq!(logs_in(&service, email).await, logs, "{email}");
        }
        let ana = json(&service.database, "get ana@example.com").await;
        assert_eq!((&ana["user_id"], &ana["roles"]), (&json!(STRANGER), &json!(["moderator"])));
        assert_eq!(ana["created_at"], "2024-03-05T09:12:03.000000Z");
        assert_eq!(ana["email_verified_at"], "2024-03-05T09:14:22.500000Z");
        let mut events = service.database.events().await;
        events.retain(|event| event.actor == "admin:cli");
        let is_import = |payload: &_| matches!(payload, Some(UserCreated(created)) if created.imported);
        assert!(events.len() == 3 && events.iter().all(|event| is_import(&event.payload)));

        let again = import(&service.database, file.as_bytes(), " --json").await;
        assert_eq!(again.code, Some(0));
        let summary: Value = serde_json::from_str(&again.stdout).unwrap();
        assert_eq!(summary, json!({"created": 0, "unchanged": 3, "rejected": 0}));
        assert_eq!(service.database.count(CREATED).await, 3);
    }

    async fn rejected_lines_are_named_by_number_and_the_others_are_imported(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        let long = format!("{{\"email\": \"{}@example.com\"}}", "secret".repeat(1 << 18));
        let lines: [(&[u8], &str); 14] = [
            (br#"{"email": "one@example.com", "roles": ["Secret"]}"#, "roles: must each have 1 to 64 characters"),
            (br#"{"email": "two@example.com", "encrypted_password": "secret"}"#, "unknown field: encrypted_password; there are user_id, email,"),
            (br#"{"email": "secret"}"#, "email: must be an e-mail address"),
            (br#"{"user_id": "7"}"#, "user_id: must be a UUID"),
            (br#"{"email": "x@example.com", "password_hash": "$2b$31$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"}"#, "password_hash: the cost 31 is not between 4 and 16"),
            (br#"{"email": "x@example.com", "password_hash": "$argon2id$secret"}"#, "password_hash: the format is argon2id; only bcrypt is supported"),
            (br#"{"email": "ana@example.com", "user_id": "7d1f4f0e-5b7a-4c55-9b1e-0c3f6a2d9e01"}"#, "EMAIL_TAKEN"),
            (b"{\"email\": \"secret\xFF@example.com\"}", "encoding: is not UTF-8"),
            (long.as_bytes(), "length: is over 65536 bytes"),
            (b"email,password_hash", "JSON: is not one object (column 1)"),
            (br#"["secret"]"#, "JSON: is not one object"),
            (br#"{"email": "x@example.com", "created_at": "secret"}"#, "created_at: must be a time such as"),
            (br#"{"email": "x@example.com", "created_at": "2996-01-01T00:00:00Z"}"#, "created_at: must not be in the future"),
            (br#"{"email": "ben@example.com"}"#, ""),
        ];
        let file = lines.map(|(line, _)| [line, b"\n\n"].concat()).concat();
        let ended = import(&service.database, &file, "").await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "created: 1, unchanged: 0, rejected: 13\n"));
        assert!(ended.stderr.ends_with("13 lines were rejected\n"), "{}", ended.stderr);
        let reported: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("line ")).collect();
        assert_eq!(reported.len(), 13);
        for (index, (line, (_, reason))) in reported.iter().zip(lines).enumerate() {
            assert!(line.starts_with(&format!("line {}: {reason}", 2 * index + 1)), "{line}");
        }
        assert!(!ended.stderr.to_lowercase().contains("secret"), "{}", ended.stderr);

        let ended = import(&service.database, &file, " --json").await;
        assert_eq!(ended.code, Some(1));
        let output: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(output[6], json!({"line": 13, "status": "REJECTED", "reason": "EMAIL_TAKEN"}));
        assert_eq!(output[13], json!({"created": 0, "unchanged": 1, "rejected": 13}));
        assert_eq!(service.database.count(USERS).await, 2);
    }

    async fn the_first_of_two_lines_with_one_address_wins(database: TestDatabase) {
        let database = migrated(database).await;
        let file = format!(
            "{}\n{}{}\n",
            json!({"email": ANA, "password_hash": hash()}),
            // In another batch.
            many(300),
            json!({"email": "ANA@example.com", "password_hash": "$2a$04$"}),
        );
        let ended = import(&database, file.as_bytes(), "").await;
        assert!(ended.stderr.contains("line 302: password_hash: "), "{}", ended.stderr);
        let file = file.replace("\"$2a$04$\"", "null");
        let ended = import(&database, file.as_bytes(), "").await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "created: 0, unchanged: 302, rejected: 0\n"));
    }

    async fn an_import_that_was_ended_goes_on(database: TestDatabase) {
        let database = migrated(database).await;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("users.jsonl");
        let rows: usize = 8000;
        fs::write(&file, many(rows)).unwrap();
        let url = database.url();
        let mut before = 0;
        for signal in ["TERM", "KILL"] {
            let mut process = Process::start(folder.path(), &["users", "import", "users.jsonl"], &variables(&url));
            eventually(async || database.count(USERS).await > before).await;
            process.signal(signal);
            match signal {
                "TERM" => assert_eq!(process.exit_code().await, Some(1)),
                _ => drop(process.killed_by().await),
            }
            before = database.count(USERS).await;
            assert!(before < i64::try_from(rows).unwrap(), "it was ended in the middle");
        }
        let summary = json(&database, &format!("import {}", file.display())).await;
        let left = i64::try_from(rows).unwrap() - before;
        assert_eq!(summary, json!({"created": left, "unchanged": before, "rejected": 0}));
        let once = "SELECT count(*) FROM (SELECT user_id FROM outbox_events GROUP BY user_id HAVING count(*) = 1) AS once";
        for sql in [USERS, CREATED, once] {
            assert_eq!(database.count(sql).await, i64::try_from(rows).unwrap(), "{sql}");
        }
    }

    async fn an_import_that_waits_for_its_input_ends_on_a_signal(database: TestDatabase) {
        let database = migrated(database).await;
        let folder = TempDir::new().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let url = database.url();
        for signal in ["TERM", "INT"] {
            let mut process = Process::start(folder.path(), &["users", "import", "fifo"], &variables(&url));
            let writer = sender(&fifo).await;
            writer.writable().await.unwrap();
            writer.try_write(b"{\"email\": ").unwrap();
            process.signal(signal);
            assert_eq!(process.exit_code().await, Some(1));
            process.wait_for("before the command was done").await;
        }
    }

    async fn an_import_whose_results_nobody_reads_is_a_failure(database: TestDatabase) {
        let database = migrated(database).await;
        let rejected = "yes '{\"email\": \"zzz\"}' | head -3000";
        let script = format!("{rejected} | {{ $users import - --json; echo $? >&2; }} | head -1");
        let stderr = shell(&database, &script).await;
        assert!(stderr.ends_with("Broken pipe (os error 32)\n1\n"), "{stderr}");
    }

    async fn an_export_moves_to_a_database_with_another_key(database: TestDatabase) {
        let backend = database.backend();
        let old = service_now(database, &[]).await;
        old.sign_up(ANA).await;
        done(&old.database, "set-roles ana@example.com moderator").await;
        let file = json!({"email": BEN, "password_hash": hash(), "email_verified_at": "2024-03-05T09:14:22Z"});
        assert_eq!(import(&old.database, file.to_string().as_bytes(), "").await.code, Some(0));
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("users.jsonl");
        done(&old.database, &format!("export {} --with-hashes", path.display())).await;
        let exported = fs::read_to_string(&path).unwrap();

        let database = migrated(TestDatabase::create(backend).await.unwrap()).await;
        let ended = users_with_key(&database, &format!("import {}", path.display()), OTHER_KEY).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "created: 2, unchanged: 0, rejected: 0\n"));
        let new = service_now(database, &["--data-key", OTHER_KEY]).await;
        for email in [ANA, BEN] {
            assert!(logs_in(&new, email).await, "{email}");
        }
        let again = folder.path().join("again.jsonl");
        let command = format!("export {} --with-hashes", again.display());
        let ended = users_with_key(&new.database, &command, OTHER_KEY).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let without_hashes = |text: &str| -> Vec<Value> {
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            // A login has brought the hash of the import to another cost.
            lines.map(|mut line| { line["password_hash"].take(); line }).collect()
        };
        assert_eq!(without_hashes(&exported), without_hashes(&fs::read_to_string(&again).unwrap()));
    }

    async fn imported_hashes_are_sealed_also_before_the_first_start(database: TestDatabase) {
        let database = migrated(database).await;
        let file = json!({"email": ANA, "password_hash": hash()}).to_string();
        assert_eq!(import(&database, file.as_bytes(), "").await.code, Some(0));
        let service = service_now(database, &[]).await;
        service.sign_up(BEN).await;
        for email in [ANA, BEN] {
            assert!(service.database.stored_hash(email).await.starts_with("sealed:"), "{email}");
        }
    }

    async fn an_import_does_not_begin_the_roll_out(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        // As before the first start of this release.
        service.database.execute("DELETE FROM transitions").await;
        let file = json!({"email": BEN, "password_hash": hash()}).to_string();
        assert_eq!(import(&service.database, file.as_bytes(), "").await.code, Some(0));
        assert_eq!(service.database.count("SELECT count(*) FROM transitions").await, 0);
        let stored = service.database.stored_hash(BEN).await;
        assert!(stored.starts_with("$2"), "replicas of the release before can read it");
        assert!(logs_in(&service, BEN).await);
    }

    async fn a_wrong_key_imports_nothing(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        service.sign_up(ANA).await;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("users.jsonl");
        fs::write(&file, many(1)).unwrap();
        let ended = users_with_key(&service.database, &format!("import {}", file.display()), OTHER_KEY).await;
        assert_eq!((ended.code, service.database.count(USERS).await), (Some(1), 1));
    }

    async fn a_file_that_cannot_be_read_is_a_failure(database: TestDatabase) {
        let database = migrated(database).await;
        let missing = users(&database, "import /no/such/file").await;
        assert_eq!(missing.code, Some(1));
        assert!(missing.stderr.contains("cannot open /no/such/file: No such file"), "{}", missing.stderr);
        let folder = users(&database, "import /tmp").await;
        assert_eq!(folder.code, Some(1));
        assert!(folder.stderr.contains("stopped after line 0"), "{}", folder.stderr);
        let empty = users(&database, "import -").await;
        assert_eq!((empty.code, empty.stdout.as_str()), (Some(0), "created: 0, unchanged: 0, rejected: 0\n"));
    }

    async fn a_terminal_shows_the_progress(database: TestDatabase) {
        let database = migrated(database).await;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("users.jsonl");
        fs::write(&file, format!("{}{{\n", many(1000))).unwrap();
        let url = database.url();
        let arguments = ["users", "import", file.to_str().unwrap()];
        let (code, screen) = Process::run_on_terminal(&arguments, &settings(&url, &[("TERM", "xterm")]), "").await;
        assert_eq!(code, Some(1), "{screen}");
        for shown in ["% 250 lines, ", "line 1001: JSON: is not one object", "created: 1000, unchanged: 0, rejected: 1", "1 line was rejected"] {
            assert!(screen.contains(shown), "no {shown:?} in {screen:?}");
        }
    }
}

/// The writing end of a pipe, as soon as a process reads it.
async fn sender(fifo: &Path) -> pipe::Sender {
    let mut writer: io::Result<pipe::Sender> = Err(io::ErrorKind::NotFound.into());
    eventually(async || {
        writer = pipe::OpenOptions::new().open_sender(fifo);
        writer.is_ok()
    })
    .await;
    writer.unwrap()
}
