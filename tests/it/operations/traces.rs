//! One trace from the caller to Kafka, as a receiver of the OpenTelemetry protocol gets it.

mod imports;
mod receiver;

use std::net::SocketAddr;

use auth_service::proto::{
    RegisterRequest, RegisterResponse, auth_service_client::AuthServiceClient,
};
use serde_json::Value;
use tokio::net::TcpListener;

use self::receiver::{Receiver, Span};
use crate::harness::{
    GATEWAY, INTERNAL_TOKEN, Kafka, PASSWORD, Process, TestDatabase, both, connect, register,
    with_bearer,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Variables of OpenTelemetry that are often set for all services of a machine.
const EMPTY: [&str; 14] = [
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
];
const PARENT: &str = "00f067aa0ba902b7";

both! {
    async fn a_trace_goes_from_the_caller_through_the_service_to_kafka(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let receiver = Receiver::start().await;
        let otel = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint.as_str()),
            // All spans come at the end.
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ];
        let variables = [&otel[..], &GATEWAY, &kafka.variables()].concat();
        let mut process = Process::serve(&database, &variables);
        let traceparent = format!("00-{TRACE}-{PARENT}-01");
        let ana = sign_up(process.grpc_addr().await, Some(&traceparent)).await;
        let record = kafka.wait_for(1).await.remove(0);
        assert_eq!(receiver.spans().len(), 0);
        process.signal("TERM");
        assert_eq!(process.exit_code().await, Some(0));

        let spans = receiver.spans();
        // The service sends no spans of its own work.
        let all: Vec<_> = spans.iter().filter(|span| span.trace_id == TRACE).collect();
        assert_eq!(all.len(), spans.len(), "{spans:#?}");
        let the = |name: &str| {
            let found = all.iter().find(|span| span.name == name);
            *found.unwrap_or_else(|| panic!("no {name} in {all:#?}"))
        };
        let rpc = the("Register");
        assert_eq!(rpc.parent_id, PARENT);
        assert_eq!(rpc.attribute("rpc.grpc.status_code"), "0");
        let hash = the("hash a password");
        assert_eq!(hash.parent_id, rpc.id);
        assert_eq!(the("wait for a lane").parent_id, hash.id);
        // The throttle works in a task of its own.
        for sql in ["count_attempt", "register"] {
            assert_eq!(the(sql).parent_id, rpc.id, "{sql}");
        }
        assert_eq!(record.headers["traceparent"], format!("00-{TRACE}-{}-01", rpc.id));
        assert_clean(&spans, &ana);
        let line = audit_line(&process);
        assert_eq!(line["span"]["trace_id"], TRACE);
        assert_eq!(line["span"]["method"], "Register");
    }

    async fn without_a_trace_of_the_caller_one_begins_here(database: TestDatabase) {
        let receiver = Receiver::start().await;
        let mut process = Process::serve(&database, &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint),
            // More than the memory of any machine.
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000000000"),
            ("LOG_FORMAT", "text"),
            ("LOG", "warn,auth_service::app=info"),
        ]);
        let line = process.wait_for("listening grpc=").await;
        let (_, addr) = line.split_once("grpc=").unwrap();
        let addr = addr.split(' ').next().unwrap().parse().unwrap();
        sign_up(addr, None).await;
        let written = database.text("SELECT traceparent FROM outbox_events").await.unwrap();
        process.signal("TERM");
        assert_eq!(process.exit_code().await, Some(0));
        let spans = receiver.spans();
        let rpc = spans.iter().find(|span| span.name == "Register").unwrap();
        assert_eq!(rpc.parent_id, "");
        assert_eq!(written, format!("00-{}-{}-01", rpc.trace_id, rpc.id));
        let line = process.wait_for("audit").await;
        assert!(line.contains(&format!("trace_id={}", rpc.trace_id)), "{line}");
    }

    async fn a_path_is_ignored_and_an_empty_variable_is_not_set(database: TestDatabase) {
        let receiver = Receiver::start().await;
        let with_path = format!("{}/v1/traces", receiver.endpoint);
        for (user, endpoint) in [("ana", with_path.as_str()), ("ben", "")] {
            let mut variables: Vec<_> = EMPTY.iter().map(|name| (*name, "")).collect();
            variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
            let mut process = Process::serve(&database, &variables);
            let email = format!("{user}@example.com");
            process.client().await.register(register(&email)).await.unwrap();
            process.signal("TERM");
            assert_eq!(process.exit_code().await, Some(0), "{:#?}", process.log());
        }
        let spans = receiver.spans();
        let registered = spans.iter().filter(|span| span.name == "Register");
        assert_eq!(registered.count(), 1);
    }

    async fn without_a_receiver_the_log_still_has_the_trace_of_the_caller(database: TestDatabase) {
        let mut process = Process::serve(&database, &[]);
        let traceparent = format!("00-{TRACE}-{PARENT}-00");
        sign_up(process.grpc_addr().await, Some(&traceparent)).await;
        let written = database.text("SELECT traceparent FROM outbox_events").await;
        assert_eq!(written, Some(traceparent));
        process.signal("TERM");
        assert_eq!(process.exit_code().await, Some(0));
        assert_eq!(audit_line(&process)["span"]["trace_id"], TRACE);
    }

    async fn a_receiver_that_hangs_or_is_absent_delays_no_call(database: TestDatabase) {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = [&silent, &closed].map(|port| port.local_addr().unwrap());
        drop(closed);
        for (n, endpoint) in endpoints.into_iter().enumerate() {
            let endpoint = format!("http://{endpoint}");
            let mut process = Process::serve(&database, &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ]);
            let mut client = process.client().await;
            for user in 0..5 {
                let email = format!("ana{n}{user}@example.com");
                client.register(register(&email)).await.unwrap();
            }
            process.signal("TERM");
            assert_eq!(process.exit_code().await, Some(0));
            let log = process.log().join("\n");
            assert!(log.contains("spans"), "it says that they are lost: {log}");
        }
    }
}

async fn sign_up(addr: SocketAddr, traceparent: Option<&str>) -> RegisterResponse {
    let mut client = AuthServiceClient::new(connect(addr).await);
    let message = RegisterRequest {
        start_session: true,
        ..register("ana.secret@example.com")
    };
    let mut request = with_bearer(message, INTERNAL_TOKEN);
    let address = "192.0.2.1".parse().unwrap();
    request.metadata_mut().insert("x-client-address", address);
    if let Some(traceparent) = traceparent {
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", traceparent.parse().unwrap());
    }
    client.register(request).await.unwrap().into_inner()
}

fn audit_line(process: &Process) -> Value {
    let log = process.log();
    let lines = log.iter().map(|line| serde_json::from_str(line).unwrap());
    let mut audit = lines.filter(|line: &Value| line["target"] == "audit");
    audit.next().expect("a line")
}

fn assert_clean(spans: &[Span], ana: &RegisterResponse) {
    let shown = format!("{spans:?}");
    let tokens = ana.tokens.as_ref().unwrap();
    for secret in [
        "ana.secret",
        PASSWORD,
        INTERNAL_TOKEN,
        &tokens.refresh_token,
        &tokens.access_token,
        "$2b$",
    ] {
        assert!(!shown.contains(secret), "{secret}");
    }
}
