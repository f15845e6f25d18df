//! Connections: how they end, and what many calls on one of them may do to each other.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auth_service::{
    clock::ManualClock, grpc::Limits, proto::auth_service_client::AuthServiceClient,
};
use prost::Message as _;
use tokio::time::timeout;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{
    DATA, Frames, START, Service, TestDatabase, both, build, call_but_its_end, cancelled_call,
    connect, end_of_call, framed, logout, register,
};

/// Streams that a client may have open at once.
const MAX_STREAMS: u32 = 256;

async fn start(database: TestDatabase, change: impl FnOnce(&mut Limits)) -> Service {
    let clock = Arc::new(ManualClock::new(START));
    // A call waits for its caller, who waits for the connection's age.
    let options = ["--request-timeout", "60s"];
    let mut app = build(&database, Arc::clone(&clock), &options)
        .await
        .expect("the service starts");
    change(&mut app.limits);
    Service::run(app, database, clock).await
}

async fn somebody_new_is_served(addr: SocketAddr) {
    let mut client = AuthServiceClient::new(connect(addr).await);
    let answer = client.register(register("new@example.com")).await;
    answer.expect("a new connection is served");
}

/// A call that always works.
async fn a_logout(service: &Service) -> Vec<u8> {
    let session = service.sign_up("ana@example.com").await;
    framed(&logout(&session.tokens.refresh_token).encode_to_vec())
}

/// Reads on until the calls on these streams are answered, which must all have worked.
async fn answered(frames: &mut Frames, mut streams: Vec<u32>) {
    while !streams.is_empty() {
        let frame = frames.next().await.expect("an answer before the end");
        if frame.kind == DATA {
            streams.retain(|stream| *stream != frame.stream);
        }
        let failed = frame.ends_stream() && streams.contains(&frame.stream);
        assert!(
            !failed,
            "an error is an answer without a message: {frame:?}"
        );
    }
}

both! {
    async fn an_old_connection_is_asked_to_go_and_its_running_call_finishes(database: TestDatabase) {
        let service = start(database, |limits| limits.connection = Duration::from_millis(300)).await;
        let body = a_logout(&service).await;
        let mut frames = Frames::open(service.addr, &call_but_its_end(1, "Logout", &body)).await;
        let reason = loop {
            let frame = frames.next().await.expect("a reason before the end");
            if let Some(reason) = frame.goaway() {
                break reason;
            }
        };
        assert_eq!(reason, h2::Reason::NO_ERROR);
        somebody_new_is_served(service.addr).await;
        frames.write(&end_of_call(1, &body)).await.expect("it still reads");
        answered(&mut frames, vec![1]).await;
        // Nothing runs any more, so it is closed.
        while frames.next().await.is_some() {}
    }

    async fn a_stream_without_an_end_is_cut_some_time_later(database: TestDatabase) {
        let service = start(database, |limits| {
            limits.connection = Duration::from_millis(300);
            limits.farewell = Duration::from_millis(300);
        })
        .await;
        let mut client = HealthClient::new(connect(service.addr).await);
        let watch = client.watch(HealthCheckRequest::default()).await;
        let mut health = watch.expect("it begins").into_inner();
        let mut told = 0;
        let until_cut = async {
            while health.message().await.is_ok_and(|status| status.is_some()) {
                told += 1;
            }
        };
        timeout(Duration::from_mins(1), until_cut).await.expect("it is cut");
        assert!(told > 0, "it was open");
        somebody_new_is_served(service.addr).await;
    }

    /// A gateway cancels all the calls of a client that went away.
    async fn a_burst_of_cancelled_calls_leaves_the_others_alone(service: Service) {
        let streams = (1..40).step_by(2).collect::<Vec<_>>();
        let body = a_logout(&service).await;
        let running = streams.iter().flat_map(|&n| call_but_its_end(n, "Logout", &body));
        let mut frames = Frames::open(service.addr, &running.collect::<Vec<_>>()).await;
        assert_eq!(frames.settle().await, Ok(()));

        let cancelled = (0..MAX_STREAMS).flat_map(|n| cancelled_call(101 + 2 * n, "Login"));
        frames.write(&cancelled.collect::<Vec<_>>()).await.expect("it reads");
        assert_eq!(frames.settle().await, Ok(()));

        let ends = streams.iter().flat_map(|&n| end_of_call(n, &body));
        frames.write(&ends.collect::<Vec<_>>()).await.expect("it reads");
        answered(&mut frames, streams).await;
    }
}
