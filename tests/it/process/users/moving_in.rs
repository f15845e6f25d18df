//! The commands of `deploy/moving-in.md` with made-up dumps of other systems.

use std::fs;

use tempfile::TempDir;
use tonic::Code;

use super::{done, service_now, users};
use crate::harness::{Backend, Service, TestDatabase, both, login, reason};

const PAGE: &str = include_str!("../../../../deploy/moving-in.md");

/// The text of the page between these two.
fn between(begin: &str, end: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(begin).expect("on the page");
    rest.split_once(end).expect("on the page").0
}

/// Writes the lines that a query of the page makes of a dump, and imports them. Returns the old
/// database, or `None` without a Postgres.
async fn move_in(new: &TestDatabase, dump: &str, query: &str) -> Option<TestDatabase> {
    let old = TestDatabase::create(Backend::Postgres).await?;
    old.execute(dump).await;
    let lines: Vec<_> = old.texts(query).await.into_iter().flatten().collect();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("users.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    let summary = done(new, &format!("import {}", file.display())).await;
    assert_eq!(
        summary,
        format!("created: {}, unchanged: 0, rejected: 0\n", lines.len())
    );
    Some(old)
}

async fn log_in(service: &Service, email: &str, password: &str) -> Result<(), (Code, String)> {
    let mut request = login(email);
    password.clone_into(&mut request.password);
    let answer = service.client().login(request).await;
    answer.map(drop).map_err(|status| reason(&status))
}

async fn roles(service: &Service, email: &str) -> serde_json::Value {
    super::json(&service.database, &format!("get {email}")).await["roles"].take()
}

both! {
    async fn users_of_supabase_move_in(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let dump = include_str!("../../moving_in/supabase_auth_users.sql");
        let query = between("-- supabase.sql: one JSON line for each user\n", "```");
        let Some(old) = move_in(&service.database, dump, query).await else { return };
        assert_eq!(service.database.count("SELECT count(*) FROM users").await, 4);
        assert_eq!(roles(&service, "ana.silva@example.com").await, serde_json::json!(["moderator"]));

        // As the loop of the page does, whose quotes are those of a shell.
        let query = between("psql \"$OLD\" -XAt -F ' ' -c \"", "\" |").replace("\\\"", "\"");
        let ids = old.texts(&query.replace("SELECT id,", "SELECT id::text || ' ' ||")).await;
        for line in ids.into_iter().flatten() {
            let (user, until) = line.split_once(' ').unwrap();
            done(&service.database, &format!("suspend {user} --reason banned --until {until}")).await;
        }
        let suspended = Err((Code::PermissionDenied, "ACCOUNT_SUSPENDED".to_owned()));
        let unknown = Err((Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned()));
        for (email, password, expected) in [
            ("Ana.Silva@Example.com", "lake tulip harbour", Ok(())),
            ("chen.wei@example.org", "quiet meadow lantern", Ok(())),
            ("deepa.rao@example.com", "quiet meadow lantern", unknown),
            ("farid.aziz@example.org", "copper window island", suspended),
        ] {
            assert_eq!(log_in(&service, email, password).await, expected, "{email}");
        }
    }

    async fn users_of_devise_move_in(database: TestDatabase) {
        let service = service_now(database, &[]).await;
        let dump = include_str!("../../moving_in/devise_users.sql");
        let query = between("-- devise.sql: one JSON line for each user\n", "```");
        let moved = move_in(&service.database, dump, query).await;
        if moved.is_none() { return }
        assert_eq!(service.database.count("SELECT count(*) FROM users").await, 6);
        for (email, password) in [
            ("ana.silva@example.com", "lake tulip harbour"),
            ("bea.lindqvist@example.org", "quiet meadow lantern"),
            ("carlos.diaz@example.com", "copper window island"),
            ("emil.novak@example.org", "violet anchor marble"),
            ("zoë.müller@example.com", "crème brûlée tiède"),
        ] {
            assert_eq!(log_in(&service, email, password).await, Ok(()), "{email}");
        }
        let unknown = Err((Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned()));
        assert_eq!(log_in(&service, "dana.levi@example.com", "lake tulip harbour").await, unknown);
        let mail = users(&service.database, "send-reset dana.levi@example.com").await;
        assert_eq!(mail.code, Some(0), "{}", mail.stderr);
    }
}
