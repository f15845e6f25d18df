//! Floods of log lines that callers cause: the first few are in full, and the others are
//! counted. No count is lost. Lines that name an attacked account are all in full.

use std::time::Duration;

use auth_service::proto::{
    GetAccountRequest, LoginRequest, RegisterRequest, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient,
};
use futures::future::join_all;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::harness::{
    GATEWAY, INTERNAL_TOKEN, NO_THROTTLE, Process, TestDatabase, bearer, both,
    change_password_from, connect, delete_account, login, logout, refresh, refused, register,
    signing_keys, with_bearer,
};

const WRONG: &str = "a wrong horse battery staple";
/// More of each kind than a flood has in full.
const GUESSES: usize = 30;
const CALLS: u64 = 300;
/// Far fewer than calls.
const MOST_LINES: usize = 100;

/// Event and reason of each kind of refusal below.
const KINDS: [(&str, &str); 6] = [
    ("signing_key", "unknown_caller"),
    ("refresh", "invalid_token"),
    ("logout", "invalid_token"),
    ("login", "invalid_argument"),
    ("register", "invalid_argument"),
    ("get_account", "invalid_token"),
];

both! {
    async fn a_flood_of_refusals_is_summed_up_and_no_count_is_lost(database: TestDatabase) {
        let process = Process::serve(&database, &GATEWAY);
        let channel = connect(process.grpc_addr().await).await;
        let mut client = AuthServiceClient::new(channel.clone());
        let mut account = AccountServiceClient::new(channel.clone());
        for _ in 0..CALLS {
            refused(signing_keys(channel.clone(), None).await);
            refused(client.refresh(refresh("no token")).await);
            refused(client.logout(logout("no token")).await);
            refused(client.login(login("")).await);
            refused(client.register(register("no address")).await);
            refused(account.get_account(GetAccountRequest {}).await);
            signing_keys(channel.clone(), Some(&bearer(INTERNAL_TOKEN))).await.unwrap();
        }
        process.signal("TERM");

        // The last sums are written at the end.
        let all = async {
            while KINDS.iter().any(|kind| lines(&process, *kind).1 < CALLS) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_mins(1), all).await.expect("every refusal is counted");
        for kind in KINDS {
            let (lines, refusals) = lines(&process, kind);
            assert_eq!(refusals, CALLS, "{kind:?}");
            assert!(lines.len() < MOST_LINES, "{} lines of {kind:?}", lines.len());
            assert!(lines[0]["count"].is_null(), "{:?}", lines[0]);
            for line in &lines {
                assert_eq!(line["outcome"], "failed", "{line}");
            }
        }
        let log = process.log();
        let granted = log.iter().filter(|line| line.contains(r#""outcome":"ok""#)).count();
        assert_eq!(granted as u64, CALLS, "a success is never left out");
    }

    async fn a_flood_of_guesses_never_hides_whose_password_is_guessed(database: TestDatabase) {
        let process = Process::serve(&database, &NO_THROTTLE);
        let channel = connect(process.grpc_addr().await).await;
        let client = AuthServiceClient::new(channel.clone());
        let account = AccountServiceClient::new(channel);
        let request = RegisterRequest { start_session: true, ..register("mallory@example.com") };
        let mallory = client.clone().register(request).await.unwrap().into_inner();
        let ana = client.clone().register(register("ana@example.com")).await.unwrap().into_inner();
        let token = mallory.tokens.unwrap().access_token;
        let wrong = |email| LoginRequest { password: WRONG.to_owned(), ..login(email) };
        let flood = (0..GUESSES).map(|_| async {
            let delete = with_bearer(delete_account(WRONG), &token);
            let change = with_bearer(change_password_from(WRONG, "quiet meadow lantern"), &token);
            refused(client.clone().login(wrong("mallory@example.com")).await);
            refused(account.clone().delete_account(delete).await);
            refused(account.clone().change_password(change).await);
        });
        join_all(flood).await;
        refused(client.clone().login(wrong("ana@example.com")).await);
        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        for (event, user, guesses) in [
            ("login", &mallory.user_id, GUESSES),
            ("delete_account", &mallory.user_id, GUESSES),
            ("change_password", &mallory.user_id, GUESSES),
            ("login", &ana.user_id, 1),
        ] {
            let (lines, _) = lines(&process, (event, "wrong_password"));
            let of_user = lines.iter().filter(|line| line["user_id"] == **user).count();
            assert_eq!(of_user, guesses, "{event} of {user}");
        }
    }
}

/// The audit lines of a kind, and how many refusals they stand for.
fn lines(process: &Process, (event, reason): (&str, &str)) -> (Vec<Value>, u64) {
    let lines = process.log().into_iter();
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(&line).expect("JSON"))
        .filter(|line: &Value| line["target"] == "audit")
        .filter(|line| line["event"] == event && line["reason"] == reason)
        .collect();
    let refusals = lines.iter().map(|line| line["count"].as_u64().unwrap_or(1));
    let refusals = refusals.sum();
    (lines, refusals)
}
