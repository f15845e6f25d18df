//! The lines of the acts of administrators.

use auth_service::proto::{
    self, admin_service_client::AdminServiceClient, auth_service_client::AuthServiceClient,
};
use tonic::Request;

use super::fields;
use crate::harness::{
    INTERNAL_TOKEN, Process, TestDatabase, both, connect, login, refused, register, with_bearer,
};

const NO_USER: &str = "0192f3a4-0000-7000-8000-000000000000";
const OTHER: &str = "a-token-of-another-with-40-characters-12";

/// By a person at support.
fn by_mia<T>(message: T) -> Request<T> {
    let mut request = with_bearer(message, INTERNAL_TOKEN);
    request
        .metadata_mut()
        .insert("x-actor", "mia@support.example.net".parse().unwrap());
    request
}

both! {
    async fn an_act_that_fails_names_the_user_and_the_administrator(database: TestDatabase) {
        let tokens = format!("support:{INTERNAL_TOKEN}");
        let process = Process::serve(&database, &[
            ("INTERNAL_TOKENS", &tokens),
            ("INTERNAL_SCOPES", "support=admin"),
        ]);
        let channel = connect(process.grpc_addr().await).await;
        let mut admin = AdminServiceClient::new(channel.clone());
        let mut client = AuthServiceClient::new(channel);
        let user_id = client.register(register("ana@example.com")).await.unwrap().into_inner().user_id;
        let find = || by_mia(proto::GetUserRequest {
            user: Some(proto::get_user_request::User::Email("nobody@example.com".to_owned())),
        });
        refused(admin.get_user(find()).await);
        database.execute("ALTER TABLE mail_requests RENAME TO gone").await;
        let suspend = |reason: &str| by_mia(proto::SuspendUserRequest {
            user_id: user_id.clone(),
            reason: reason.to_owned(),
            until: None,
        });
        refused(admin.suspend_user(suspend("spam")).await);
        // None of them is summed up.
        for _ in 0..40 {
            refused(admin.suspend_user(suspend("")).await);
        }
        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        let log = process.log();
        let names = ["event", "outcome", "reason", "user_id", "caller", "actor"];
        let lines = fields(&log, names);
        let mia = "mia@support.example.net";
        assert_eq!(lines[1], ["get_user", "failed", "unknown_user", "", "support", mia]);
        assert!(!fields(&log, ["email_hash"])[1][0].is_empty());
        assert_eq!(lines[2], ["suspend_user", "failed", "fault", &user_id, "support", mia]);
        let invalid = ["suspend_user", "failed", "invalid_argument", &user_id, "support", mia];
        assert_eq!(lines[3..].len(), 40);
        assert!(lines[3..].iter().all(|line| *line == invalid));
    }

    async fn each_act_of_an_administrator_is_one_line(database: TestDatabase) {
        let tokens = format!("support:{INTERNAL_TOKEN},other:{OTHER}");
        let process = Process::serve(&database, &[
            ("INTERNAL_TOKENS", &tokens),
            ("INTERNAL_SCOPES", "support=admin"),
        ]);
        let channel = connect(process.grpc_addr().await).await;
        let mut client = AuthServiceClient::new(channel.clone());
        let mut admin = AdminServiceClient::new(channel);
        let user = client.register(register("ana@example.com")).await.unwrap().into_inner().user_id;
        let user = &*user;
        let id = || user.to_owned();
        let suspend = |user_id: &str| by_mia(proto::SuspendUserRequest {
            user_id: user_id.to_owned(),
            reason: "sent spam to 300 rooms".to_owned(),
            until: None,
        });
        let roles = |expected_version| by_mia(proto::SetRolesRequest {
            user_id: id(),
            roles: vec!["moderator".to_owned()],
            expected_version,
        });
        let email = || proto::GetUserRequest {
            user: Some(proto::get_user_request::User::Email("ana@example.com".to_owned())),
        };
        let reset = || by_mia(proto::SendPasswordResetRequest { user_id: id() });

        admin.get_user(by_mia(email())).await.unwrap();
        admin.list_users(by_mia(proto::ListUsersRequest::default())).await.unwrap();
        admin.list_user_sessions(by_mia(proto::ListUserSessionsRequest { user_id: id() })).await.unwrap();
        let end = proto::EndUserSessionsRequest { user_id: id(), session_id: String::new() };
        admin.end_user_sessions(by_mia(end)).await.unwrap();
        admin.suspend_user(suspend(user)).await.unwrap();
        refused(admin.suspend_user(suspend(NO_USER)).await);
        refused(client.login(login("ana@example.com")).await);
        refused(admin.send_password_reset(reset()).await);
        admin.restore_user(by_mia(proto::RestoreUserRequest { user_id: id() })).await.unwrap();
        admin.send_password_reset(reset()).await.unwrap();
        admin.invalidate_password(by_mia(proto::InvalidatePasswordRequest { user_id: id() })).await.unwrap();
        admin.unlock_user(by_mia(proto::UnlockUserRequest { user_id: id() })).await.unwrap();
        admin.set_roles(roles(0)).await.unwrap();
        refused(admin.set_roles(roles(7)).await);
        refused(admin.get_user(with_bearer(email(), OTHER)).await);
        refused(admin.get_user(email()).await);
        let mut anonymous = by_mia(email());
        anonymous.metadata_mut().append("x-actor", "ben".parse().unwrap());
        refused(admin.get_user(anonymous).await);
        admin.delete_user(by_mia(proto::DeleteUserRequest { user_id: id() })).await.unwrap();

        process.signal("TERM");
        process.wait_for("\"stopped\"").await;
        let log = process.log();
        let mia = "mia@support.example.net";
        let reason = "sent spam to 300 rooms";
        let expected = [
            ["register", "ok", "", user, "", ""],
            ["get_user", "ok", "", user, "support", mia],
            ["list_users", "ok", "", "", "support", mia],
            ["list_user_sessions", "ok", "", user, "support", mia],
            ["end_user_sessions", "ok", "", user, "support", mia],
            ["suspend_user", "ok", reason, user, "support", mia],
            ["suspend_user", "failed", "unknown_user", NO_USER, "support", mia],
            ["login", "failed", "account_suspended", user, "", ""],
            ["send_password_reset", "failed", "account_suspended", user, "support", mia],
            ["restore_user", "ok", "", user, "support", mia],
            ["send_password_reset", "ok", "", user, "support", mia],
            ["invalidate_password", "ok", "", user, "support", mia],
            ["unlock_user", "ok", "", user, "support", mia],
            ["set_roles", "ok", "", user, "support", mia],
            ["set_roles", "failed", "version_conflict", user, "support", mia],
            ["get_user", "failed", "missing_scope", "", "other", ""],
            ["get_user", "failed", "unknown_caller", "", "", ""],
            ["get_user", "failed", "invalid_argument", "", "support", ""],
            ["delete_user", "ok", "", user, "support", mia],
        ];
        let lines = fields(&log, ["event", "outcome", "reason", "user_id", "caller", "actor"]);
        assert_eq!(lines, expected.map(|line| line.map(str::to_owned)));
        let log = log.join("\n");
        for secret in ["ana@example.com", INTERNAL_TOKEN, OTHER] {
            assert!(!log.contains(secret), "{secret}");
        }
    }
}
