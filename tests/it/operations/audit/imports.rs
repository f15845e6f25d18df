//! The lines of imports.

use tonic::Request;

use super::fields;
use crate::harness::{
    Admin, IMPORT_USERS, IMPORTER, Process, RawConnection, TestDatabase, admin, bearer, body_of,
    both, connect, eventually, import, row, rows,
};

const SUPPORT: &str = "a-token-of-support-with-40-characters-12";

async fn client(process: &Process, token: &str) -> Admin {
    admin(connect(process.grpc_addr().await).await, token)
}

both! {
    async fn each_import_is_audited_at_its_beginning_and_its_end(database: TestDatabase) {
        let tokens = format!("importer:{IMPORTER},support:{SUPPORT}");
        let process = Process::serve(&database, &[
            ("INTERNAL_TOKENS", &tokens),
            ("INTERNAL_SCOPES", "importer=import,support=admin"),
        ]);
        let mut by_mia = Request::new(futures::stream::iter([rows(300), vec![row(""), row("")]].concat()));
        by_mia.metadata_mut().insert("x-actor", "mia".parse().unwrap());
        let mut importer = client(&process, IMPORTER).await;
        let mut results = importer.import_users(by_mia).await.unwrap().into_inner();
        while results.message().await.unwrap().is_some() {}

        let again = vec![row("0-user-0@example.com"), row("ana@example.com"), row(&"x".repeat(70_000))];
        import(importer.clone(), again).await.1.unwrap_err();
        let raw = RawConnection::open(process.grpc_addr().await).await;
        let authorization = bearer(IMPORTER);
        let headers = [("authorization", &*authorization)];
        let ben = body_of(&[row("ben@example.com")]);
        drop((raw.call_that_goes_on(IMPORT_USERS, &headers, ben).await.unwrap(), raw));
        process.wait_for("\"abandoned\"").await;
        // Its numbers are written by another task.
        let has_ended = |line: &String| line.contains("an import has ended");
        eventually(async || process.log().iter().filter(|line| has_ended(line)).count() == 3).await;
        database.execute("ALTER TABLE outbox_events RENAME TO gone").await;
        import(importer, vec![row("carl@example.com")]).await.1.unwrap_err();
        import(client(&process, SUPPORT).await, Vec::new()).await.1.unwrap_err();
        process.signal("TERM");
        process.wait_for("\"stopped\"").await;

        let log = process.log();
        let lines = fields(&log, ["event", "outcome", "reason", "caller", "actor"]);
        assert_eq!(lines, [
            ["import_users", "ok", "begun", "importer", "mia"],
            ["import_users", "ok", "", "importer", "mia"],
            ["import_users", "ok", "begun", "importer", ""],
            ["import_users", "failed", "invalid_argument", "importer", ""],
            ["import_users", "ok", "begun", "importer", ""],
            ["import_users", "failed", "abandoned", "importer", ""],
            ["import_users", "ok", "begun", "importer", ""],
            ["import_users", "failed", "fault", "importer", ""],
            ["import_users", "failed", "missing_scope", "support", ""],
        ].map(|line| line.map(str::to_owned)));
        let numbers = log.iter().filter(|line| line.contains("an import has ended"));
        let numbers = numbers.map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line.to_string().contains("\"ImportUsers\""), "{line}");
            assert_eq!(line["caller"], "importer");
            ["created", "unchanged", "rejected"].map(|name| line[name].as_u64().unwrap())
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [[300, 0, 2], [1, 1, 0], [1, 0, 0], [0, 0, 0]]);
        assert!(!log.join("\n").contains("@example.com"));
    }
}
