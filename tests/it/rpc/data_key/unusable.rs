//! An account without a usable password: its stored hash is empty.

use auth_service::proto;
use serde_json::Value;

use super::*;
use crate::harness::{Process, assert_wrong_password, delete_account};

async fn make_unusable(database: &TestDatabase, email: &str) {
    let sql = format!("UPDATE users SET password_hash = '' WHERE email = '{email}'");
    database.execute(&sql).await;
}

both! {
    async fn no_password_opens_it(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        make_unusable(&service.database, "ana@example.com").await;
        let unknown = refused(service.client().login(login("nobody@example.com")).await);
        for password in [PASSWORD, "sealed:1:"] {
            let request = proto::LoginRequest {
                password: password.to_owned(),
                ..login("ana@example.com")
            };
            let status = refused(service.client().login(request).await);
            assert_eq!(error_line(&status), error_line(&unknown), "{password}");
        }
        let mut account = service.account(&ana);
        let change = change_password(NEW_PASSWORD);
        assert_wrong_password(&refused(account.change_password(change).await));
        let delete = delete_account(PASSWORD);
        assert_wrong_password(&refused(account.delete_account(delete).await));
        assert_eq!(service.database.stored_hash("ana@example.com").await, "");
    }

    async fn a_pass_neither_counts_nor_seals_it(service: Service) {
        service.sign_up("ana@example.com").await;
        service.sign_up("ben@example.com").await;
        make_unusable(&service.database, "ana@example.com").await;
        let replica = Replica::new(&service.database, &[]);
        let next = replica.tick().await;
        assert_eq!(replica.counts(), ["1.0", "0.0", "0.0", "0.0"]);
        assert_eq!(next, Duration::from_hours(24), "there is nothing to do for it");
        assert_eq!(service.database.stored_hash("ana@example.com").await, "");
    }

    async fn a_login_is_audited_as_a_wrong_password_of_the_account(database: TestDatabase) {
        let process = Process::serve(&database, &[]);
        let mut client = process.client().await;
        let ana = client.register(register("ana@example.com")).await.unwrap().into_inner();
        make_unusable(&database, "ana@example.com").await;
        refused(client.login(login("ana@example.com")).await);
        let line = process.wait_for("wrong_password").await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!([&line["event"], &line["user_id"]], ["login", ana.user_id.as_str()]);
    }
}
