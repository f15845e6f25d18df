//! Streams of answers: how many there may be, and how long they last.

use std::time::Duration;

use futures::{StreamExt as _, future::ready, stream};
use tokio::{sync::oneshot, time::timeout};
use tonic::{Code, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
};
use tonic_types::StatusExt as _;

use super::{
    memory::bytes::{HEADERS, reflection, stream_windows},
    target::{LIMIT, start},
};
use crate::harness::{Frames, connect, reason, refused};

type Reflection = (Streaming<ServerReflectionResponse>, oneshot::Sender<()>);

/// Asks one question. The request ends when the sender is dropped.
async fn reflect(channel: Channel) -> Result<Reflection, tonic::Status> {
    let question = MessageRequest::ListServices(String::new());
    let request = stream::iter([ServerReflectionRequest {
        message_request: Some(question),
        ..ServerReflectionRequest::default()
    }]);
    let mut client = ServerReflectionClient::new(channel);
    let (open, end) = oneshot::channel();
    let until_end = stream::once(end).filter_map(|_| ready(None));
    let answer = client.server_reflection_info(request.chain(until_end));
    Ok((answer.await?.into_inner(), open))
}

fn assert_overloaded<T>(answer: Result<T, tonic::Status>) {
    let status = refused(answer);
    let expected = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(reason(&status), expected);
    assert!(status.get_details_retry_info().is_some());
}

/// The client of one connection cannot keep others out.
#[tokio::test(flavor = "multi_thread")]
async fn few_reflection_streams_are_open_at_once() {
    // None ends by itself.
    let service = start(&[], |limits| limits.call = Duration::from_mins(10)).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut stream = reflect(service.channel()).await.expect("below the limit");
        assert!(stream.0.message().await.expect("an answer").is_some());
        open.push(stream);
    }
    assert_overloaded(reflect(service.channel()).await);
    let of_another = reflect(connect(service.addr).await).await;
    let mut of_another = of_another.expect("another connection has fewer");
    assert!(of_another.0.message().await.expect("an answer").is_some());
    // The oldest one ended for it.
    assert_overloaded(open.remove(0).0.message().await);
    drop(open);
    while reflect(service.channel()).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn few_health_watches_are_open_at_once() {
    let service = start(&[], |_| {}).await;
    let watch = async |channel| {
        let mut client = HealthClient::new(channel);
        let stream = client.watch(HealthCheckRequest::default()).await?;
        let mut stream = stream.into_inner();
        assert!(stream.message().await.expect("an answer").is_some());
        Ok(stream)
    };
    let mut of_gateway = watch(service.channel()).await.expect("below the limit");
    let hostile = connect(service.addr).await;
    let mut open = Vec::new();
    for _ in 1..256 {
        open.push(watch(hostile.clone()).await.expect("below the limit"));
    }
    assert_overloaded(watch(hostile).await);
    watch(connect(service.addr).await)
        .await
        .expect("another connection has fewer");
    assert_overloaded(open.remove(0).message().await);
    let goes_on = timeout(Duration::from_millis(100), of_gateway.message()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflection_stream_ends_at_the_deadline_of_calls() {
    let service = start(&[], |limits| limits.call = Duration::from_millis(300)).await;
    let (mut stream, _open) = reflect(service.channel()).await.expect("it begins");
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end without a reason"),
            Err(status) => break status,
        }
    };
    let expected = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    assert_eq!(reason(&end), expected);
}

/// The server cannot send the end of such a stream, or see that its client is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_reflection_stream_that_is_not_read_keeps_no_other_out() {
    let service = start(&[], |limits| limits.call = Duration::from_millis(300)).await;
    let mut unread = Vec::new();
    for _ in 0..16 {
        let bytes = [stream_windows(0), reflection(1)].concat();
        let mut frames = Frames::open(service.addr, &bytes).await;
        while frames.next().await.expect("an answer").kind != HEADERS {}
        unread.push(frames);
    }
    let begins = async { while reflect(service.channel()).await.is_err() {} };
    timeout(LIMIT, begins).await.expect("it begins");
    // These connections were not closed for it.
    for frames in &mut unread {
        assert_eq!(frames.settle().await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_watch_ends_with_the_age_of_a_connection() {
    let service = start(&[], |limits| {
        limits.connection_age = Duration::from_millis(300);
    })
    .await;
    let mut client = HealthClient::new(service.channel());
    let watch = client.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("it begins").into_inner();
    while watch.message().await.is_ok_and(|status| status.is_some()) {}
}
