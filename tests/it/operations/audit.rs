//! The audit log: one line for each event, with ids and without personal data.

mod admin;
mod imports;
mod mails;

use std::time::Duration;

use auth_service::proto::{
    ChangePasswordRequest, DeleteAccountRequest, EndOtherSessionsRequest, EndSessionRequest,
    GetSigningKeyRequest, LoginRequest, RegisterRequest,
    account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::harness::{
    BareConnection, GATEWAY, INTERNAL_TOKEN, NO_THROTTLE, PASSWORD, Process, TestDatabase, both,
    connect, hex_of, login, logout, refresh, refused, register, with_bearer,
};

const NEW_PASSWORD: &str = "another lake tulip harbour";

/// In the order of the documentation.
const FIELDS: [&str; 6] = [
    "event",
    "outcome",
    "reason",
    "user_id",
    "session_id",
    "caller",
];

/// Keyed hashes: see `lines_name_account_and_client_by_keyed_hashes`.
const HASHES: [&str; 2] = ["email_hash", "address_hash"];

both! {
    async fn each_event_is_one_line_whatever_log_says(database: TestDatabase) {
        let process = Process::serve(&database, &[
            ("LOG", "auth_service=info"),
            GATEWAY[0],
            ("REFRESH_RETRY_WINDOW", "0s"),
            ("THROTTLE_FREE_PER_ACCOUNT", "2"),
            ("THROTTLE_FIRST_WAIT", "15m"),
        ]);
        let channel = connect(process.grpc_addr().await).await;
        let mut client = AuthServiceClient::new(channel.clone());

        let request = RegisterRequest { start_session: true, ..register("ana@example.com") };
        let first = client.register(request).await.unwrap().into_inner();
        refused(client.register(register("ana@example.com")).await);
        let second = client.login(login("ana@example.com")).await.unwrap().into_inner();
        refused(client.login(login("nobody@example.com")).await);
        let wrong = LoginRequest {
            password: "a wrong horse battery staple".to_owned(),
            ..login("ana@example.com")
        };
        refused(client.login(wrong.clone()).await);
        let first_token = first.tokens.as_ref().unwrap().refresh_token.clone();
        // A successful refresh writes no line.
        client.refresh(refresh(&first_token)).await.unwrap();
        refused(client.refresh(refresh(&first_token)).await);
        refused(client.refresh(refresh(&first_token)).await);
        let second_token = second.tokens.unwrap().refresh_token;
        client.logout(logout(&second_token)).await.unwrap();
        client.logout(logout(&second_token)).await.unwrap();
        let keys = with_bearer(GetSigningKeyRequest {}, INTERNAL_TOKEN);
        client.get_signing_key(keys).await.unwrap();
        refused(client.get_signing_key(GetSigningKeyRequest {}).await);

        let ana = client.login(login("ana@example.com")).await.unwrap().into_inner();
        let mut others = Vec::new();
        for _ in 0..3 {
            let other = client.login(login("ana@example.com")).await.unwrap().into_inner();
            others.push(other.session_id);
        }
        let mut account = AccountServiceClient::new(channel);
        let token = ana.tokens.unwrap().access_token;
        let end = EndSessionRequest { session_id: others[0].clone() };
        account.end_session(with_bearer(end.clone(), &token)).await.unwrap();
        account.end_session(with_bearer(end, &token)).await.unwrap();
        account.end_other_sessions(with_bearer(EndOtherSessionsRequest {}, &token)).await.unwrap();
        let change = |current: &str| with_bearer(ChangePasswordRequest {
            current_password: current.to_owned(),
            new_password: NEW_PASSWORD.to_owned(),
        }, &token);
        refused(account.change_password(change("a wrong horse battery staple")).await);
        account.change_password(change(PASSWORD)).await.unwrap();
        refused(client.login(wrong.clone()).await);
        refused(client.login(wrong).await);
        let delete = |current: &str| with_bearer(DeleteAccountRequest {
            current_password: current.to_owned(),
        }, &token);
        refused(account.delete_account(delete(PASSWORD)).await);
        account.delete_account(delete(NEW_PASSWORD)).await.unwrap();

        for _ in 0..4 {
            refused(client.login(login("other@example.com")).await);
        }

        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        let log = process.log();
        let (user, first, second) = (&*first.user_id, &*first.session_id, &*second.session_id);
        let third = &*ana.session_id;
        let expected = [
            ["register", "ok", "", user, first, ""],
            ["register", "failed", "email_taken", "", "", ""],
            ["login", "ok", "", user, second, ""],
            ["login", "failed", "unknown_user", "", "", ""],
            ["login", "failed", "wrong_password", user, "", ""],
            ["refresh", "failed", "reused", user, first, ""],
            ["logout", "ok", "", user, second, ""],
            ["signing_key", "ok", "", "", "", "gateway"],
            ["signing_key", "failed", "unknown_caller", "", "", ""],
            ["login", "ok", "", user, third, ""],
            ["login", "ok", "", user, &others[0], ""],
            ["login", "ok", "", user, &others[1], ""],
            ["login", "ok", "", user, &others[2], ""],
            ["end_session", "ok", "", user, &others[0], ""],
            ["end_other_sessions", "ok", "", user, third, ""],
            ["change_password", "failed", "wrong_password", user, third, ""],
            ["change_password", "ok", "", user, third, ""],
            ["login", "failed", "wrong_password", user, "", ""],
            ["login", "failed", "throttled", user, "", ""],
            ["delete_account", "failed", "wrong_password", user, third, ""],
            ["delete_account", "ok", "", user, third, ""],
            ["login", "failed", "unknown_user", "", "", ""],
            ["login", "failed", "unknown_user", "", "", ""],
            ["login", "failed", "throttled", "", "", ""],
            ["login", "failed", "throttled", "", "", ""],
        ];
        assert_eq!(audit(&log), expected.map(|line| line.map(str::to_owned)));
        let log = log.join("\n");
        for secret in ["@example.com", "horse battery", "rcr_", INTERNAL_TOKEN, PASSWORD, NEW_PASSWORD] {
            assert!(!log.contains(secret), "{secret}");
        }
    }
}

both! {
    async fn attempts_that_are_refused_or_cut_off_are_audited_with_their_caller(database: TestDatabase) {
        // Hashes take seconds, and no login waits for one.
        let slow_hashes = [("BCRYPT_COST", "16"), ("PASSWORD_THREADS", "1")];
        let settings = [&GATEWAY[..], &NO_THROTTLE, &slow_hashes, &[("PASSWORD_MAX_WAIT", "1ms")]];
        let process = Process::serve(&database, &settings.concat());
        let connection = BareConnection::open(process.grpc_addr().await).await;
        let login = || with_bearer(login("ana@example.com"), INTERNAL_TOKEN);
        let mut late = login();
        late.set_timeout(Duration::from_millis(50));
        let late = refused(connection.client().login(late).await);
        assert_eq!(late.code(), Code::DeadlineExceeded);
        // More than a thread has lanes.
        let mut logins = FuturesUnordered::new();
        for _ in 0..20 {
            let mut client = connection.client();
            logins.push(async move { client.login(login()).await });
        }
        let refused = refused(logins.next().await.unwrap());
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop((logins, connection));
        for reason in ["deadline_exceeded", "overloaded", "abandoned"] {
            let line = process.wait_for(&format!(r#""reason":"{reason}""#)).await;
            let line: Value = serde_json::from_str(&line).unwrap();
            let fields = ["target", "event", "outcome", "caller"].map(|name| line[name].as_str());
            assert_eq!(fields, ["audit", "login", "failed", "gateway"].map(Some));
            assert!(line["email_hash"].is_string(), "{line}");
        }
    }

    async fn lines_name_account_and_client_by_keyed_hashes(database: TestDatabase) {
        let process = Process::serve(&database, &GATEWAY);
        let mut client = process.client().await;
        let from = |address: &str, message| {
            let mut request = with_bearer(message, INTERNAL_TOKEN);
            request.metadata_mut().insert("x-client-address", address.parse().unwrap());
            request
        };
        let wrong = |email| LoginRequest { password: "wrong".to_owned(), ..login(email) };
        client.register(with_bearer(register("ana@example.com"), INTERNAL_TOKEN)).await.unwrap();
        for (address, email) in [
            ("192.0.2.1", "nobody@example.com"),
            ("192.0.2.1", " Nobody@Example.com"),
            ("192.0.2.2", "nobody@example.com"),
            ("192.0.2.1", "other@example.com"),
            ("192.0.2.1", "ana@example.com"),
            ("192.0.2.1", "no address"),
        ] {
            refused(client.login(from(address, wrong(email))).await);
        }
        client.login(from("192.0.2.1", login("ana@example.com"))).await.unwrap();
        let empty = RegisterRequest { password: String::new(), ..register("nobody@example.com") };
        let mut empty = with_bearer(empty, INTERNAL_TOKEN);
        empty.metadata_mut().insert("x-client-address", "192.0.2.1".parse().unwrap());
        refused(client.register(empty).await);
        process.signal("TERM");
        process.wait_for("\"stopped\"").await;

        let log = process.log();
        let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<_> = lines.filter(|line| line["target"] == "audit").skip(1).collect();
        let hashes = lines.iter().map(|line| HASHES.map(|name| line[name].as_str()));
        let hashes: Vec<_> = hashes.collect();
        let [nobody, address] = hashes[0];
        assert!(nobody.is_some() && address.is_some() && nobody != address);
        assert_eq!(hashes[1], hashes[0]);
        assert_eq!(hashes[2][0], nobody);
        assert!(hashes[2][1].is_some() && hashes[2][1] != address);
        assert!(hashes[3][0].is_some() && hashes[3][0] != nobody);
        // The others name the user, or no account.
        let expected = [[None, address], [None, address], [None, address], [nobody, address]];
        assert_eq!(hashes[4..], expected);
        assert_eq!(lines[7]["reason"], "invalid_argument");

        // A dictionary of addresses does not find them: they are keyed, with another key than
        // any that is public.
        for value in ["nobody@example.com", "192.0.2.1"] {
            for hash in [sha256(value.as_bytes()), sha256(&[192, 0, 2, 1])] {
                assert!(!log.concat().contains(&hash[..16]), "{value}");
            }
            assert!(!log.concat().contains(value), "{value}");
        }
    }

    async fn lines_name_the_internal_service_that_passed_a_call_on(database: TestDatabase) {
        let process = Process::serve(&database, &GATEWAY);
        let mut client = process.client().await;
        client.register(with_bearer(register("ana@example.com"), INTERNAL_TOKEN)).await.unwrap();
        client.login(with_bearer(login("ana@example.com"), INTERNAL_TOKEN)).await.unwrap();
        refused(client.login(with_bearer(login("nobody@example.com"), INTERNAL_TOKEN)).await);
        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        let lines = audit(&process.log());
        let events = ["register", "login", "login"];
        let expected = events.map(|event| [event, "gateway"].map(str::to_owned));
        let found: Vec<_> = lines.into_iter().map(|[event, .., caller]| [event, caller]).collect();
        assert_eq!(found, expected);
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex_of(&Sha256::digest(bytes))
}

fn audit(log: &[String]) -> Vec<[String; 6]> {
    fields(log, FIELDS)
}

/// These fields of the audit lines. Unknown fields are not allowed.
fn fields<const N: usize>(log: &[String], names: [&str; N]) -> Vec<[String; N]> {
    let lines = log.iter().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["target"] == "audit")
        .map(|line| {
            let of_every_line = ["timestamp", "level", "target", "span"];
            for name in line.as_object().unwrap().keys() {
                let known = [
                    &FIELDS[..],
                    &["mail_request_id", "actor"],
                    &HASHES,
                    &of_every_line,
                ]
                .concat();
                assert!(known.contains(&&**name), "{name}");
            }
            names.map(|name| line[name].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}
