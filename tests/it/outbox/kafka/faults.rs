//! Events wait while Kafka fails. Calls do not.

use std::time::Duration;

use auth_service::{
    app::SystemClock,
    model::{Clock as _, EventId, PendingEvent, UserId},
    outbox::{
        Metrics,
        kafka::{KafkaPublisher, PRODUCE_TIMEOUT, Settings},
        publisher::{BatchInPass, Publisher as _},
    },
};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{clock, serve, sign_up};
use crate::harness::{EVENTS, Kafka, PARKED, Process, Service, TestDatabase, both, register};

both! {
    async fn without_brokers_events_wait_and_the_log_never_shows_an_email(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let process = Process::serve(&database, &[("LOG", "trace")]);
        let mut client = process.client().await;
        let response = client
            .register(register("ana.secret@example.com"))
            .await
            .unwrap()
            .into_inner();
        let line = process.wait_for("event written").await;
        let event_id = database
            .text(database.dialect(
                "SELECT lower(hex(event_id)) FROM outbox_events",
                "SELECT replace(CAST(event_id AS text), '-', '') FROM outbox_events",
            ))
            .await
            .unwrap();
        assert!(line.replace('-', "").contains(&event_id), "{line}");
        assert!(
            line.contains("USER_CREATED") && line.contains(&response.user_id),
            "{line}"
        );
        let shown = process
            .log()
            .into_iter()
            .find(|line| line.contains("ana.secret"));
        assert_eq!(shown, None);
        assert_eq!(database.count(EVENTS).await, 1);
        drop(process);

        let variables = [&kafka.variables()[..], &[("LOG", "trace")]].concat();
        let process = Process::serve(&database, &variables);
        assert_eq!(kafka.wait_for(1).await[0].key, response.user_id);
        database.wait_for(EVENTS, 0).await;
        let shown = process
            .log()
            .into_iter()
            .find(|line| line.contains("ana.secret"));
        assert_eq!(shown, None);
    }

    async fn events_wait_for_a_topic_that_does_not_exist(database: TestDatabase) {
        let Some(kafka) = Kafka::without_topic().await else {
            return;
        };
        let log = [("LOG", "info,auth_service::outbox=debug")];
        let variables = [&kafka.variables()[..], &log].concat();
        let process = Process::serve(&database, &variables);
        let mut client = process.client().await;
        client.register(register("ana@example.com")).await.unwrap();
        process.wait_for("still cannot publish events").await;
        client.register(register("ben@example.com")).await.unwrap();
        let warnings = || {
            process
                .log()
                .into_iter()
                .filter(|line| line.contains("\"WARN\"") && line.contains("::outbox"))
                .collect::<Vec<_>>()
        };
        assert_eq!(warnings().len(), 1, "{:?}", warnings());
        assert!(warnings()[0].contains(&format!("the topic {} does not exist", kafka.topic)));
        assert!(!kafka.topic_exists().await);
        assert_eq!(database.count(EVENTS).await, 2);
        assert_eq!(database.count(PARKED).await, 0);

        kafka.create_topic().await;
        assert_eq!(kafka.wait_for(2).await.len(), 2);
        database.wait_for(EVENTS, 0).await;
        process.wait_for("publishing events again").await;
    }

    async fn a_broker_that_is_down_at_the_start_delays_events_only(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let service = serve(database, &kafka, &["--kafka-brokers", &closed.to_string()]).await;
        let user_id = sign_up(&service, "ana@example.com").await.user_id;
        let health = HealthClient::new(service.channel())
            .check(HealthCheckRequest::default())
            .await;
        assert_eq!(
            health.unwrap().into_inner().status(),
            ServingStatus::Serving
        );
        assert_eq!(service.database.count(EVENTS).await, 1);

        tokio::spawn(proxy(
            TcpListener::bind(closed).await.unwrap(),
            kafka.brokers.clone(),
        ));
        assert_eq!(kafka.wait_for(1).await[0].key, user_id);
        service.database.wait_for(EVENTS, 0).await;
        assert_eq!(service.database.count(PARKED).await, 0);
    }

    async fn a_record_that_is_too_large_is_parked_and_the_others_go_on(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        // No poller runs while the events are written, so all are in one batch.
        let silent = Service::start_at(database, clock(), &[]).await;
        let (before, after) = (
            "0f0e0d0c0b0a09080706050403020100",
            "0f0e0d0c0b0a09080706050403020101",
        );
        for (user, version, large) in [(before, 1, true), (before, 2, false), (after, 1, false)] {
            insert(&silent.database, user, version, large).await;
        }
        let ana = sign_up(&silent, "ana@example.com").await.user_id;
        let (stopped, database) = silent.stop().await;
        stopped.unwrap();

        let service = serve(database, &kafka, &[]).await;
        let records = kafka.wait_for(2).await;
        service.database.wait_for(PARKED, 1).await;
        service.database.wait_for(EVENTS, 2).await;
        let mut keys: Vec<_> = records.into_iter().map(|record| record.key).collect();
        keys.sort();
        let mut expected = [uuid::Uuid::parse_str(after).unwrap().to_string(), ana];
        expected.sort();
        assert_eq!(keys, expected);
        let parked = service.database.text(
            "SELECT CAST(user_version AS TEXT) FROM outbox_events WHERE parked_reason LIKE '%TooLarge%'",
        ).await;
        assert_eq!(parked.as_deref(), Some("1"));
    }
}

both! {
    async fn an_event_from_a_clock_that_is_ahead_waits_for_kafkas_clock(database: TestDatabase) {
        let Some(kafka) = Kafka::new().await else {
            return;
        };
        let service = serve(database, &kafka, &[]).await;
        let now = service.clock.now();
        service.clock.advance(Duration::from_hours(2));
        let ana = sign_up(&service, "ana@example.com").await;
        let token = ana.tokens.expect("a session").refresh_token;
        service.log_out(&token).await.unwrap();
        service.clock.set(now);
        // The others go on.
        let ben = sign_up(&service, "ben@example.com").await.user_id;
        assert_eq!(kafka.wait_for(1).await[0].key, ben);
        let database = &service.database;
        let waiting = "SELECT count(*) FROM outbox_events WHERE retry_at IS NOT NULL";
        database.wait_for(waiting, 1).await;
        assert_eq!(database.count(EVENTS).await, 2);
        assert_eq!(database.count(PARKED).await, 0);

        // Two hours later by Kafka's clock: without help, both of her events arrive in order.
        let later = format!("UPDATE outbox_events SET occurred_at = {}", database.time(now));
        database.execute(&later).await;
        let mut records = kafka.wait_for(3).await;
        records.retain(|record| record.key == ana.user_id);
        records.sort_by_key(|record| record.offset);
        let types = records.iter().map(|record| &*record.headers["ce_type"]);
        assert!(types.eq(["USER_CREATED", "SESSION_ENDED"]));
        database.wait_for(EVENTS, 0).await;
        assert_eq!(database.count(PARKED).await, 0);
    }
}

async fn insert(database: &TestDatabase, user: &str, version: i64, large: bool) {
    let (prefix, now) = (database.dialect("x", ""), database.dialect("0", "now()"));
    let payload = if large {
        database.dialect("zeroblob(1200000)", "decode(repeat('00', 1200000), 'hex')")
    } else {
        database.dialect("x'00'", r"'\x00'")
    };
    let event_id = uuid::Uuid::now_v7().simple();
    database
        .execute(&format!(
            "INSERT INTO outbox_events
                 (event_id, user_id, user_version, event_type, occurred_at, payload)
             VALUES ({prefix}'{event_id}', {prefix}'{user}', {version}, 'USER_CREATED', {now}, {payload})"
        ))
        .await;
}

/// Simulates a broker that starts late. Only the first connection of a client goes through it;
/// after that the client knows the address of the broker itself.
async fn proxy(listener: TcpListener, broker: String) {
    loop {
        let (mut inside, _) = listener.accept().await.unwrap();
        let mut outside = TcpStream::connect(&broker).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_that_could_outlive_the_lease() {
    let Some(kafka) = Kafka::new().await else {
        return;
    };
    let config = Settings {
        brokers: vec![kafka.brokers.clone()],
        topic: kafka.topic.clone(),
        tls: None,
        sasl: None,
    };
    let publisher =
        KafkaPublisher::new(config, Metrics::register(&mut Registry::default()).produce);
    let pending = PendingEvent {
        id: 7,
        event_id: EventId::new(SystemClock.now()),
        user_id: UserId::new(SystemClock.now()),
        user_version: 1,
        event_type: "USER_CREATED".to_owned(),
        occurred_at: SystemClock.now(),
        traceparent: None,
        payload: vec![],
    };
    let too_soon = Instant::now() + PRODUCE_TIMEOUT;
    let outcome = publisher
        .publish(std::slice::from_ref(&pending), BatchInPass::First, too_soon)
        .await;
    assert!(outcome.fault.is_none() && outcome.refused.is_empty());
    assert!(outcome.acknowledged.is_empty());
    assert_eq!(kafka.records().await, []);

    let in_time = Instant::now() + 20 * PRODUCE_TIMEOUT;
    let outcome = publisher
        .publish(&[pending], BatchInPass::First, in_time)
        .await;
    assert_eq!(outcome.acknowledged, [7]);
    assert_eq!(kafka.records().await.len(), 1);
}
