//! The spans of an import.

use tonic::Request;

use super::receiver::Receiver;
use crate::harness::{IMPORTER, Process, TestDatabase, admin, both, connect, refused, row};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

both! {
    async fn an_import_is_one_span_until_its_end(database: TestDatabase) {
        let receiver = Receiver::start().await;
        let tokens = format!("importer:{IMPORTER}");
        let mut process = Process::serve(&database, &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint),
            ("INTERNAL_TOKENS", &tokens),
            ("INTERNAL_SCOPES", "importer=import"),
        ]);
        let mut importer = admin(connect(process.grpc_addr().await).await, IMPORTER);
        let unreadable = row(&"x".repeat(70_000));
        let mut rows = Request::new(futures::stream::iter([row("ana@example.com"), unreadable]));
        let traceparent = format!("00-{TRACE}-{PARENT}-01").parse().unwrap();
        rows.metadata_mut().insert("traceparent", traceparent);
        let mut results = importer.import_users(rows).await.unwrap().into_inner();
        assert!(results.message().await.unwrap().is_some());
        refused(results.message().await);
        process.signal("TERM");
        assert_eq!(process.exit_code().await, Some(0));

        let spans = receiver.spans();
        let the = |name: &str| {
            let found = spans.iter().find(|span| span.name == name);
            found.unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
        };
        let rpc = the("ImportUsers");
        assert_eq!((&*rpc.trace_id, &*rpc.parent_id), (TRACE, PARENT));
        // The code at the end of the stream: INVALID_ARGUMENT.
        assert_eq!(rpc.attribute("rpc.grpc.status_code"), "3");
        assert_eq!(the("import_users").parent_id, rpc.id);
        let written = database.text("SELECT traceparent FROM outbox_events").await;
        assert_eq!(written, Some(format!("00-{TRACE}-{}-01", rpc.id)));
    }
}
