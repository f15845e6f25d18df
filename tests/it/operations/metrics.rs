//! The metrics on `/metrics`: every name of the contract, and what changes each of them.

#![expect(clippy::float_cmp, reason = "counts are whole numbers")]

mod scrape;

use std::time::Duration;

use auth_service::{
    model::Clock as _,
    proto::{GetSigningKeyRequest, RegisterRequest},
};
use tonic::{Code, Request, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use self::scrape::Scrape;
use crate::harness::{
    EVENTS, IMPORT_USERS, IMPORTER, INTERNAL_TOKEN, ImportStream, Kafka, PASSWORD, RawConnection,
    Service, TestDatabase, admin, bearer, body_of, both, db, import, login, logout, refresh,
    refused, register, row,
};

/// The series of a service without calls; each histogram by its count. The RPC metrics are
/// absent: their series appear with the first call.
const SERIES: [&str; 63] = [
    "auth_build_info{version}",
    r#"auth_connections_closed_total{which="idle"}"#,
    r#"auth_connections_closed_total{which="new"}"#,
    r#"auth_connections_closed_total{which="stalled"}"#,
    "auth_db_connections_max",
    r#"auth_db_connections{state="busy"}"#,
    r#"auth_db_connections{state="idle"}"#,
    r#"auth_db_retries_total{reason="deadlock"}"#,
    r#"auth_db_retries_total{reason="serialization"}"#,
    "auth_db_wait_seconds_count",
    "auth_edge_last_read_timestamp_seconds",
    "auth_edge_revocation_delay_seconds_count",
    "auth_edge_revocations_kept",
    "auth_edge_watchers",
    "auth_logins_throttled_total",
    "auth_outbox_lease_held",
    "auth_outbox_oldest_age_seconds",
    "auth_outbox_parked",
    "auth_outbox_pending",
    "auth_outbox_produce_duration_seconds_count",
    "auth_outbox_published_total",
    r#"auth_password_hashes_by_cost_total{cost="10"}"#,
    r#"auth_password_hashes_by_cost_total{cost="11"}"#,
    r#"auth_password_hashes_by_cost_total{cost="12"}"#,
    r#"auth_password_hashes_by_cost_total{cost="13"}"#,
    r#"auth_password_hashes_by_cost_total{cost="14"}"#,
    r#"auth_password_hashes_by_cost_total{cost="15"}"#,
    r#"auth_password_hashes_by_cost_total{cost="16"}"#,
    r#"auth_password_hashes_by_cost_total{cost="4"}"#,
    r#"auth_password_hashes_by_cost_total{cost="5"}"#,
    r#"auth_password_hashes_by_cost_total{cost="6"}"#,
    r#"auth_password_hashes_by_cost_total{cost="7"}"#,
    r#"auth_password_hashes_by_cost_total{cost="8"}"#,
    r#"auth_password_hashes_by_cost_total{cost="9"}"#,
    r#"auth_password_hashes_total{outcome="cancelled",priority="known_device"}"#,
    r#"auth_password_hashes_total{outcome="cancelled",priority="other"}"#,
    r#"auth_password_hashes_total{outcome="cancelled",priority="upgrade"}"#,
    r#"auth_password_hashes_total{outcome="done",priority="known_device"}"#,
    r#"auth_password_hashes_total{outcome="done",priority="other"}"#,
    r#"auth_password_hashes_total{outcome="done",priority="upgrade"}"#,
    r#"auth_password_hashes_total{outcome="refused",priority="known_device"}"#,
    r#"auth_password_hashes_total{outcome="refused",priority="other"}"#,
    r#"auth_password_hashes_total{outcome="refused",priority="upgrade"}"#,
    "auth_password_lanes_busy",
    "auth_password_seals_pass_start_timestamp_seconds",
    r#"auth_password_seals{key="current"}"#,
    r#"auth_password_seals{key="none"}"#,
    r#"auth_password_seals{key="previous"}"#,
    r#"auth_password_seals{key="unknown"}"#,
    r#"auth_password_wait_seconds_count{priority="known_device"}"#,
    r#"auth_password_wait_seconds_count{priority="other"}"#,
    r#"auth_password_wait_seconds_count{priority="upgrade"}"#,
    r#"auth_refresh_total{outcome="retried"}"#,
    r#"auth_refresh_total{outcome="reused"}"#,
    r#"auth_refresh_total{outcome="rotated"}"#,
    r#"auth_refresh_total{outcome="unknown"}"#,
    "auth_tls_handshakes_failed_total",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
];

both! {
    async fn every_other_series_is_there_from_the_start(service: Service) {
        let now = Scrape::of(&service).await;
        assert_eq!(now.names(), SERIES);
    }

    async fn a_service_without_calls_has_few_series(service: Service) {
        let count = Scrape::of(&service).await.series();
        assert!(count < 200, "{count} series");
    }

    async fn a_call_is_counted_by_method_and_code(service: Service) {
        let mut client = service.client();
        let count = |method, code| {
            format!("auth_rpc_total{{method=\"{method}\",code=\"{code}\"}}")
        };
        let before = Scrape::of(&service).await;
        client.register(register("ana@example.com")).await.unwrap();
        refused(client.register(register("ana@example.com")).await);
        refused(client.register(register("nobody")).await);
        refused(client.refresh(refresh("rcr_")).await);
        refused(client.get_signing_key(GetSigningKeyRequest {}).await);
        let path = PathAndQuery::from_static("/realchat.auth.v1.AuthService/Forget");
        let mut unknown = Grpc::new(service.channel());
        unknown.ready().await.unwrap();
        let codec = ProstCodec::<(), ()>::default();
        refused(unknown.unary(Request::new(()), path, codec).await);
        let now = Scrape::of(&service).await;
        let expected = [
            ("Register", "OK", 1.0),
            ("Register", "ALREADY_EXISTS", 1.0),
            ("Register", "INVALID_ARGUMENT", 1.0),
            ("Refresh", "UNAUTHENTICATED", 1.0),
            ("GetSigningKey", "PERMISSION_DENIED", 1.0),
            ("unknown", "UNIMPLEMENTED", 1.0),
        ];
        for (method, code, times) in expected {
            assert_eq!(now.since(&before, &count(method, code)), times, "{method} {code}");
        }
        assert!(!now.has(&count("Logout", "OK")));
        assert!(now.value("auth_rpc_duration_seconds_sum{method=\"Register\"}") > 0.0);
        assert_eq!(now.value("auth_rpc_duration_seconds_count{method=\"Register\"}"), 3.0);
        let within = "auth_rpc_duration_seconds_bucket{method=\"Register\",le=\"+Inf\"}";
        assert_eq!(now.value(within), 3.0);
    }

    async fn an_import_is_counted_with_the_code_at_its_end(database: TestDatabase) {
        let tokens = format!("importer:{IMPORTER}");
        let importer = ["--internal-tokens", &tokens, "--internal-scopes", "importer=import"];
        let service = Service::start(database, &importer).await;
        let client = || admin(service.channel(), IMPORTER);
        let count = |code| format!("auth_rpc_total{{method=\"ImportUsers\",code=\"{code}\"}}");
        let mut running = ImportStream::open(client()).await.unwrap();
        running.import(row("ana@example.com")).await.unwrap();
        assert!(!Scrape::of(&service).await.has(&count("OK")));
        running.end().await.1.unwrap();
        import(client(), vec![row(&"x".repeat(70_000))]).await.1.unwrap_err();
        import(admin(service.channel(), "no token"), Vec::new()).await.1.unwrap_err();
        let raw = RawConnection::open(service.addr).await;
        let authorization = bearer(IMPORTER);
        let headers = [("authorization", &*authorization)];
        let ben = body_of(&[row("ben@example.com")]);
        let (mut request, _answer) = raw.call_that_goes_on(IMPORT_USERS, &headers, ben).await.unwrap();
        request.send_reset(h2::Reason::CANCEL);
        for code in ["OK", "INVALID_ARGUMENT", "PERMISSION_DENIED", "CANCELLED"] {
            Scrape::wait(&service, &count(code), |times| times == 1.0).await;
        }
    }

    async fn a_call_that_is_cut_off_by_its_deadline_counts(database: TestDatabase) {
        let options = ["--bcrypt-cost", "16", "--request-timeout", "1s", "--password-max-wait", "900ms"];
        let service = Service::start(database, &options).await;
        refused(service.client().login(login("ana@example.com")).await);
        let now = Scrape::of(&service).await;
        let late = "auth_rpc_total{method=\"Login\",code=\"DEADLINE_EXCEEDED\"}";
        assert_eq!(now.value(late), 1.0);
        assert_eq!(now.value("auth_password_hashes_total{outcome=\"cancelled\",priority=\"other\"}"), 1.0);
    }

    async fn a_refresh_is_counted_by_what_the_token_turned_out_to_be(service: Service) {
        let mut client = service.client();
        let request = RegisterRequest { start_session: true, ..register("ana@example.com") };
        let first = client.register(request).await.unwrap().into_inner().tokens.unwrap();
        let first = first.refresh_token;
        let second = client.refresh(refresh(&first)).await.unwrap().into_inner().tokens.unwrap();
        client.refresh(refresh(&first)).await.unwrap();
        client.refresh(refresh(&second.refresh_token)).await.unwrap();
        refused(client.refresh(refresh(&first)).await);
        refused(client.refresh(refresh(&first)).await);
        let now = Scrape::of(&service).await;
        let times = |outcome| now.value(&format!("auth_refresh_total{{outcome=\"{outcome}\"}}"));
        assert_eq!(
            ["rotated", "retried", "reused", "unknown"].map(times),
            [2.0, 1.0, 1.0, 1.0]
        );
    }

    async fn attempts_that_the_throttle_refuses_are_counted(database: TestDatabase) {
        let service = Service::start(database, &["--throttle-free-per-account", "1"]).await;
        for _ in 0..3 {
            refused(service.client().login(login("nobody@example.com")).await);
        }
        let now = Scrape::of(&service).await;
        assert_eq!(now.value("auth_logins_throttled_total"), 2.0);
        assert_eq!(now.value("auth_password_hashes_total{outcome=\"done\",priority=\"other\"}"), 1.0);
    }

    async fn hashes_are_counted_and_their_waits_measured(database: TestDatabase) {
        let options = ["--password-threads", "1", "--bcrypt-cost", "13", "--password-max-wait", "1ms"];
        let service = Service::start(database, &options).await;
        let before = Scrape::of(&service).await;
        let calls = (0..30).map(|n| {
            let mut client = service.client();
            async move { refused(client.login(login(&format!("nobody{n}@example.com"))).await).code() }
        });
        // On a slow machine the database may fail some of them.
        let codes = futures::future::join_all(calls).await;
        let [done, overloaded] = [Code::Unauthenticated, Code::ResourceExhausted]
            .map(|code| codes.iter().filter(|found| **found == code).count())
            .map(|count| f64::from(u32::try_from(count).unwrap()));
        assert!(done >= 1.0 && overloaded >= 1.0, "{codes:?}");
        let now = Scrape::of(&service).await;
        let moved = |series| now.since(&before, series);
        assert_eq!(moved("auth_password_hashes_total{outcome=\"done\",priority=\"other\"}"), done);
        assert_eq!(moved("auth_password_hashes_total{outcome=\"refused\",priority=\"other\"}"), overloaded);
        assert_eq!(moved("auth_password_hashes_total{outcome=\"cancelled\",priority=\"other\"}"), 0.0);
        assert_eq!(moved("auth_password_hashes_by_cost_total{cost=\"13\"}"), done);
        assert_eq!(moved("auth_password_hashes_by_cost_total{cost=\"12\"}"), 0.0);
        assert_eq!(moved("auth_password_wait_seconds_count{priority=\"other\"}"), done);
    }

    async fn a_lane_is_busy_while_it_hashes_even_if_the_caller_leaves(database: TestDatabase) {
        let service = Service::start(database, &["--bcrypt-cost", "14"]).await;
        let (mut client, busy) = (service.client(), "auth_password_lanes_busy");
        let call = tokio::spawn(async move { client.login(login("nobody@example.com")).await });
        Scrape::wait(&service, busy, |lanes| lanes == 1.0).await;
        call.abort();
        let cancelled = "auth_password_hashes_total{outcome=\"cancelled\",priority=\"other\"}";
        Scrape::wait(&service, cancelled, |times| times == 1.0).await;
        let gone = "auth_rpc_total{method=\"Login\",code=\"CANCELLED\"}";
        Scrape::wait(&service, gone, |times| times == 1.0).await;
        Scrape::wait(&service, busy, |lanes| lanes == 0.0).await;
    }

    async fn an_outbox_without_a_poller_shows(service: Service) {
        for email in ["ana@example.com", "bob@example.com"] {
            service.client().register(register(email)).await.unwrap();
        }
        service.clock.advance(Duration::from_secs(90));
        let age = "auth_outbox_oldest_age_seconds";
        let now = Scrape::wait(&service, age, |seconds| seconds == 90.0).await;
        assert_eq!(now.value("auth_outbox_pending"), 2.0);
        assert_eq!(now.value("auth_outbox_parked"), 0.0);
        assert_eq!(now.value("auth_outbox_lease_held"), 0.0);
        let parked = service.database.time(service.clock.now());
        let first = "SELECT min(id) FROM outbox_events";
        let park = format!("UPDATE outbox_events SET parked_at = {parked} WHERE id = ({first})");
        service.database.execute(&park).await;
        let now = Scrape::wait(&service, "auth_outbox_parked", |events| events == 1.0).await;
        assert_eq!(now.value("auth_outbox_pending"), 1.0);
    }

    async fn an_outbox_that_is_emptied_shows(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let options = ["--kafka-brokers", &kafka.brokers, "--kafka-topic", &kafka.topic];
        let service = Service::start(database, &options).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        let published = "auth_outbox_published_total";
        let now = Scrape::wait(&service, published, |events| events == 1.0).await;
        assert_eq!(now.value("auth_outbox_lease_held"), 1.0);
        assert_eq!(now.value("auth_outbox_produce_duration_seconds_count"), 1.0);
        Scrape::wait(&service, "auth_outbox_pending", |events| events == 0.0).await;
    }

    async fn a_long_backlog_is_measured_by_its_ends(database: TestDatabase) {
        let db = db(&database, Duration::from_secs(10));
        db.migrate().await.unwrap();
        assert_eq!(db.backlog().await.unwrap().pending, 0);
        // An upper bound: a sequence may leave gaps between two connections.
        for (count, expected, gaps) in [(9_999, 9_999, 0), (1, 10_000, 200), (500, 10_500, 300)] {
            crate::outbox::insert_events(&database, count).await;
            let pending = db.backlog().await.unwrap().pending;
            assert!((expected..=expected + gaps).contains(&pending), "{pending}");
        }
        database.execute("DELETE FROM outbox_events WHERE id % 3 = 0").await;
        assert_eq!(db.backlog().await.unwrap().pending, database.count(EVENTS).await);
    }

    async fn the_database_and_the_process_are_measured(service: Service) {
        let before = Scrape::of(&service).await;
        service.client().register(register("ana@example.com")).await.unwrap();
        service.client().login(login("ana@example.com")).await.unwrap();
        let now = Scrape::of(&service).await;
        // The registration, and the login's look-up, count, take-back and session.
        assert!(now.since(&before, "auth_db_wait_seconds_count") >= 5.0);
        let most = service.database.dialect("1", "16").parse::<f64>().unwrap();
        assert_eq!(now.value("auth_db_connections_max"), most);
        let [busy, idle] = ["busy", "idle"]
            .map(|state| now.value(&format!("auth_db_connections{{state=\"{state}\"}}")));
        assert!((1.0..=most).contains(&(busy + idle)), "{busy} {idle}");
        for series in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "threads"] {
            assert!(now.value(&format!("process_{series}")) > 0.0, "{series}");
        }
        assert!(now.value("process_start_time_seconds") > 1.7e9);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(now.value(&format!("auth_build_info{{version=\"{version}\"}}")), 1.0);
    }

    async fn the_page_has_no_personal_data(service: Service) {
        let request = RegisterRequest { start_session: true, ..register("ana.secret@example.com") };
        let mut client = service.client();
        let answer = client.register(request).await.unwrap().into_inner();
        let tokens = answer.tokens.unwrap();
        client.logout(logout(&tokens.refresh_token)).await.unwrap();
        let page = Scrape::page(&service).await;
        for secret in [
            "ana.secret", PASSWORD, INTERNAL_TOKEN, &answer.user_id, &answer.session_id,
            &tokens.access_token, &tokens.refresh_token, "127.0.0.1",
        ] {
            assert!(!page.contains(secret), "{secret}");
        }
    }
}
