//! Leaked passwords, from a list on disk, are refused.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use auth_service::proto;
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{
    Process, Service, TestDatabase, both, reason, refused, register, settings, violation,
};

/// The other rules accept it.
const LEAKED: &str = "sch\u{f6}ne gr\u{fc}\u{df}e vK3";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02X}").unwrap();
        hex
    })
}

/// The leaked password among a thousand others.
fn list(folder: &TempDir) -> PathBuf {
    let others = (0..1000).map(|n| Sha1::digest(format!("other {n}")));
    let mut lines: Vec<_> = others
        .chain([Sha1::digest(LEAKED)])
        .map(|hash| hex(&hash) + ":12\r\n")
        .collect();
    lines.sort();
    let path = folder.path().join("leaked.txt");
    fs::write(&path, lines.concat()).unwrap();
    path
}

fn with_password(password: &str) -> proto::RegisterRequest {
    proto::RegisterRequest {
        password: password.to_owned(),
        ..register("ana@example.com")
    }
}

both! {
    async fn a_leaked_password_cannot_be_set(database: TestDatabase) {
        let folder = TempDir::new().unwrap();
        let path = list(&folder);
        let option = ["--password-blocklist-file", path.to_str().unwrap()];
        let service = Service::start(database, &option).await;
        let mut client = service.client();
        // In both normal forms.
        for password in [LEAKED, "scho\u{308}ne gru\u{308}\u{df}e vK3"] {
            let status = refused(client.register(with_password(password)).await);
            let expected = ("password", "is on a list of leaked passwords");
            assert_eq!(violation(&status), (expected.0.to_owned(), expected.1.to_owned()));
        }
        // zxcvbn is still asked.
        let status = refused(client.register(with_password("password1")).await);
        assert_eq!(violation(&status).1, "is too easy to guess");
        client.register(with_password("sch\u{f6}ne gr\u{fc}\u{df}e vK4")).await.expect("another");
    }

    async fn a_list_that_breaks_is_an_internal_error_and_accepts_no_password(database: TestDatabase) {
        let folder = TempDir::new().unwrap();
        let path = list(&folder);
        let option = ["--password-blocklist-file", path.to_str().unwrap()];
        let service = Service::start(database, &option).await;
        fs::write(&path, "shorter").unwrap();
        let status = refused(service.client().register(with_password(LEAKED)).await);
        assert_eq!(reason(&status), (Code::Internal, "INTERNAL".to_owned()));
        assert_eq!(service.database.count("SELECT count(*) FROM users").await, 0);
    }
}

#[tokio::test]
async fn a_malformed_list_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let path = list(&folder);
    let sorted = fs::read_to_string(&path).unwrap();
    let reversed: String = sorted
        .lines()
        .rev()
        .map(|line| line.to_owned() + "\n")
        .collect();
    for (content, problem) in [
        ("", "is empty"),
        ("password1\n", "holds a line that is not SHA-1:count"),
        (&reversed, "is not ordered by hash"),
    ] {
        fs::write(&path, content).unwrap();
        let file = path.to_str().unwrap();
        let list = [("PASSWORD_BLOCKLIST_FILE", file)];
        let variables = settings("sqlite://never-made.db", &list);
        let output = Process::run(&env::temp_dir(), &[], &variables).await;
        assert_eq!(output.code, Some(64));
        assert_eq!(
            output.stderr,
            format!("PASSWORD_BLOCKLIST_FILE: {problem}\n")
        );
    }
}
