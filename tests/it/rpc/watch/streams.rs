//! The ends of streams.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tonic::Code;

use super::{ANA, BEN, session};
use crate::harness::{
    ManualClock, Process, START, Service, TestDatabase, Watch, both, build, connect,
    connect_without_window, eventually, refused,
};

async fn wait_for_watchers(service: &Service, number: u32) {
    let line = format!("auth_edge_watchers {number}\n");
    eventually(async || service.probe("/metrics").await.1.contains(&line)).await;
}

/// The messages up to the end.
async fn end_of(mut watch: Watch) -> Result<(), tonic::Status> {
    while watch.next().await?.is_some() {}
    Ok(())
}

both! {
    async fn a_stream_ends_with_ok_when_the_service_stops(service: Service) {
        let (watch, _) = Watch::begin(service.channel()).await;
        let (stopped, ended) = tokio::join!(service.stop(), end_of(watch));
        ended.expect("no error");
        stopped.0.expect("in order");
    }

    async fn a_stream_ends_with_ok_when_it_is_old_and_the_next_one_misses_nothing(
        database: TestDatabase
    ) {
        let clock = Arc::new(ManualClock::new(START));
        let mut app = build(&database, Arc::clone(&clock), &[]).await.unwrap();
        app.limits.connection_age = Duration::from_secs(2);
        let service = Service::run(app, database, clock).await;
        let (ana, ben) = (service.sign_up(ANA).await, service.sign_up(BEN).await);
        let (mut watch, _) = Watch::begin(connect(service.addr).await).await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(watch.revoked().await, session(&ana));
        while watch.next().await.expect("no error").is_some() {}
        service.log_out(&ben.tokens.refresh_token).await.unwrap();
        let mut again = Watch::open(connect(service.addr).await, &watch.cursor).await.unwrap();
        again.keys().await;
        while again.revoked().await != session(&ben) {}
    }

    async fn a_watcher_that_reads_nothing_is_dropped(service: Service) {
        let slow = connect_without_window(service.addr).await;
        let slow = Watch::open(slow, "").await.expect("the stream begins");
        let (mut other, _) = Watch::begin(service.channel()).await;
        wait_for_watchers(&service, 2).await;
        wait_for_watchers(&service, 1).await;
        refused(end_of(slow).await);
        let ana = service.sign_up(ANA).await;
        service.log_out(&ana.tokens.refresh_token).await.unwrap();
        assert_eq!(other.revoked().await, session(&ana));
    }

    async fn a_stream_with_a_deadline_ends_at_it(service: Service) {
        let request = auth_service::proto::WatchRequest::default();
        let mut request = crate::harness::with_bearer(request, crate::harness::INTERNAL_TOKEN);
        request.set_timeout(Duration::from_secs(1));
        let mut client = auth_service::proto::edge_service_client::EdgeServiceClient::new(service.channel());
        let mut updates = client.watch(request).await.unwrap().into_inner();
        let ended = loop {
            match updates.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it has ended without an error"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), Code::DeadlineExceeded);
    }

    async fn the_begin_of_a_stream_is_audited_with_the_caller(database: TestDatabase) {
        let process = Process::serve(&database, &crate::harness::GATEWAY);
        let channel = connect(process.grpc_addr().await).await;
        Watch::begin(channel.clone()).await;
        let line: Value = serde_json::from_str(&process.wait_for("edge_watch").await).unwrap();
        let fields = ["event", "outcome", "caller"].map(|name| line[name].as_str());
        assert_eq!(fields, ["edge_watch", "ok", "gateway"].map(Some));
        refused(Watch::open_as(channel, "an-unknown-token-of-40-characters-or-so1", "").await);
        let line: Value = serde_json::from_str(&process.wait_for("unknown_caller").await).unwrap();
        assert_eq!(line["event"], "edge_watch");
    }
}
