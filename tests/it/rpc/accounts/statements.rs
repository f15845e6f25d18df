//! The statements of each call, counted between the service and Postgres.

use std::fmt::Write as _;

use auth_service::proto::{self, recovery_service_client::RecoveryServiceClient};

use super::{NEW_PASSWORD, end_others, get_account, list_sessions};
use crate::harness::{
    Backend, PASSWORD, Proxy, Service, Statements, TestDatabase, change_password, delete_account,
    end_session, login, refused, register,
};

/// The verb and the table, as in `UPDATE sessions`.
fn gist(sql: &str) -> String {
    let sql = sql.replace('"', "");
    let words: Vec<_> = sql
        .split([' ', '('])
        .filter(|word| !word.is_empty())
        .collect();
    let from = words.iter().position(|word| *word == "FROM");
    let table = match words[0] {
        "SELECT" | "DELETE" => from.map(|from| words[from + 1]),
        "INSERT" => Some(words[2]),
        "UPDATE" => Some(words[1]),
        _ => None,
    };
    format!("{} {}", words[0], table.unwrap_or_default())
        .trim_end()
        .to_owned()
}

/// One line for each call: the number of statements, and each of them.
struct Table {
    statements: Statements,
    lines: String,
}

impl Table {
    /// Adds the statements since the last line.
    fn add(&mut self, call: &str) {
        let statements = self.statements.take().into_iter();
        // Housekeeping, the health check, the measurement of the backlog and the reads of
        // revocations run at any time.
        let is_housekeeping = |sql: &String| {
            let of_seals = sql.contains("\"users\".\"id\" > ");
            let of_mails = sql.contains("\"mail_requests\".\"id\" > ");
            of_seals
                || of_mails
                || sql.contains("\"key_hash\" > ")
                || sql.contains("clock_timestamp")
        };
        let statements = statements.filter(|sql| !is_housekeeping(sql));
        let gists = statements.map(|sql| gist(&sql));
        let background = [
            "UPDATE outbox_lease",
            "SELECT outbox_events",
            "SELECT SELECT",
            "SELECT revocations",
            "DELETE revocations",
        ];
        let gists: Vec<_> = gists
            .filter(|gist| !background.contains(&gist.as_str()))
            .collect();
        let line = format!("{call}: {} {}", gists.len(), gists.join(", "));
        writeln!(self.lines, "{}", line.trim_end()).expect("a String takes it");
    }
}

fn wrong(email: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        password: "wrong".to_owned(),
        ..login(email)
    }
}

async fn request_reset(service: &Service, email: &str) {
    let request = proto::RequestPasswordResetRequest {
        email: email.to_owned(),
        locale: String::new(),
    };
    let mut recovery = RecoveryServiceClient::new(service.channel());
    recovery.request_password_reset(request).await.unwrap();
}

/// A service on Postgres whose statements are recorded. `None`: the test was skipped.
async fn recorded() -> Option<(Service, Table, Proxy)> {
    let database = TestDatabase::create(Backend::Postgres).await?;
    let statements = Statements::default();
    let proxy = Proxy::recording(&database, Some(statements.clone())).await;
    let options = [
        "--database-url",
        &proxy.url,
        "--database-max-connections",
        "1",
    ];
    let service = Service::start(database, &options).await;
    let table = Table {
        statements,
        lines: String::new(),
    };
    Some((service, table, proxy))
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_reset_costs_as_many_statements_for_any_address() {
    let Some((service, mut table, _proxy)) = recorded().await else {
        return;
    };
    service.sign_up("ana@example.com").await;
    table.statements.take();
    request_reset(&service, "ana@example.com").await;
    table.add("known");
    request_reset(&service, "nobody@example.com").await;
    table.add("unknown");
    insta::assert_snapshot!(table.lines, @r"
    known: 6 INSERT login_throttle, BEGIN, UPDATE users, INSERT mail_requests, INSERT outbox_events, COMMIT
    unknown: 6 INSERT login_throttle, BEGIN, UPDATE users, INSERT mail_requests, UPDATE mail_requests, COMMIT
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_costs_the_database_no_more_than_this() {
    let Some((service, mut table, _proxy)) = recorded().await else {
        return;
    };
    // The statements until here connect, migrate and so on.
    let first = service.sign_up("first@example.com").await;
    table.statements.take();

    service
        .client()
        .register(register("ana@example.com"))
        .await
        .unwrap();
    table.add("Register");
    let ana = service.sign_up("ben@example.com").await;
    table.add("Register with a session");
    refused(service.client().register(register("ben@example.com")).await);
    table.add("Register, taken");
    let other = service.sign_in("ben@example.com").await;
    table.add("Login");
    refused(service.client().login(wrong("ben@example.com")).await);
    table.add("Login, wrong");
    let sql = "UPDATE users SET password_hash = '' WHERE email = 'first@example.com'";
    service.database.execute(sql).await;
    refused(service.client().login(wrong("first@example.com")).await);
    table.add("Login, without a usable password");
    service.refresh(&other.tokens.refresh_token).await.unwrap();
    table.add("Refresh");
    service.refresh(&other.tokens.refresh_token).await.unwrap();
    table.add("Refresh, again");
    service.log_out(&other.tokens.refresh_token).await.unwrap();
    table.add("Logout");

    get_account(service.account(&ana)).await.unwrap();
    table.add("GetAccount");
    list_sessions(service.account(&ana)).await;
    table.add("ListSessions");
    refused(get_account(service.account_with("no token")).await);
    table.add("any, without a token");
    let phone = service.sign_in("ben@example.com").await;
    service.sign_in("ben@example.com").await;
    service.sign_in("ben@example.com").await;
    table.statements.take();
    let mut account = service.account(&ana);
    account.end_session(end_session(&phone.id)).await.unwrap();
    table.add("EndSession");
    account.end_session(end_session(&first.id)).await.unwrap();
    table.add("EndSession, not one's own");
    end_others(service.account(&ana)).await.unwrap();
    table.add("EndOtherSessions");
    end_others(service.account(&ana)).await.unwrap();
    table.add("EndOtherSessions, none");
    for _ in 0..3 {
        service.sign_in("ben@example.com").await;
    }
    table.statements.take();
    refused(account.change_password(change_password(PASSWORD)).await);
    table.add("ChangePassword, refused");
    account
        .change_password(change_password(NEW_PASSWORD))
        .await
        .unwrap();
    table.add("ChangePassword");
    account
        .delete_account(delete_account(NEW_PASSWORD))
        .await
        .unwrap();
    table.add("DeleteAccount");

    insta::assert_snapshot!(table.lines, @r"
    Register: 5 BEGIN, INSERT users, SELECT mail_requests, INSERT outbox_events, COMMIT
    Register with a session: 6 BEGIN, INSERT users, SELECT mail_requests, INSERT sessions, INSERT outbox_events, COMMIT
    Register, taken: 3 BEGIN, INSERT users, ROLLBACK
    Login: 4 SELECT users, INSERT login_throttle, DELETE login_throttle, INSERT sessions
    Login, wrong: 2 SELECT users, INSERT login_throttle
    Login, without a usable password: 2 SELECT users, INSERT login_throttle
    Refresh: 1 UPDATE sessions
    Refresh, again: 2 UPDATE sessions, SELECT sessions
    Logout: 7 SELECT sessions, BEGIN, UPDATE users, UPDATE sessions, INSERT revocations, INSERT outbox_events, COMMIT
    GetAccount: 2 SELECT users, SELECT mail_requests
    ListSessions: 2 SELECT users, SELECT sessions
    any, without a token: 0
    EndSession: 8 SELECT users, SELECT sessions, BEGIN, UPDATE users, UPDATE sessions, INSERT revocations, INSERT outbox_events, COMMIT
    EndSession, not one's own: 2 SELECT users, SELECT sessions
    EndOtherSessions: 9 SELECT users, BEGIN, UPDATE users, SELECT sessions, UPDATE sessions, INSERT revocations, UPDATE users, INSERT outbox_events, COMMIT
    EndOtherSessions, none: 6 SELECT users, BEGIN, UPDATE users, SELECT sessions, UPDATE sessions, COMMIT
    ChangePassword, refused: 4 SELECT users, SELECT users, INSERT login_throttle, DELETE login_throttle
    ChangePassword: 13 SELECT users, SELECT users, INSERT login_throttle, DELETE login_throttle, BEGIN, UPDATE users, UPDATE sessions, UPDATE sessions, INSERT revocations, DELETE mail_requests, UPDATE users, INSERT outbox_events, COMMIT
    DeleteAccount: 13 SELECT users, SELECT users, INSERT login_throttle, DELETE login_throttle, BEGIN, UPDATE users, SELECT sessions, DELETE sessions, INSERT revocations, INSERT outbox_events, DELETE users, INSERT deleted_users, COMMIT
    ");
}
