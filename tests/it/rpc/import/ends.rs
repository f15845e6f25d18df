//! How a stream ends that is not imported to its end.

use std::time::{Duration, Instant};

use auth_service::proto::{self, admin_service_client::AdminServiceClient};
use bytes::Buf as _;
use http::Uri;
use prost::Message as _;
use tonic::{Code, Request};

use super::{ANA, USERS};
use crate::{
    harness::{
        Answer, BareConnection, EVENTS, IMPORT_USERS, IMPORTER, ImportStream, RawConnection, admin,
        bearer, body_of, both, connect_without_window, framed, import, outcomes, reason, refused,
        retry_after, row, rows, rows_of_a_stream, violation, with_bearer,
    },
    rpc::recovery::Mailing,
};

/// The results in an answer.
fn results(answer: &Answer) -> Vec<proto::ImportResult> {
    let (mut body, mut results) = (&answer.body[..], Vec::new());
    while body.has_remaining() {
        assert_eq!(body.get_u8(), 0, "not compressed");
        let length = body.get_u32() as usize;
        let (message, rest) = body.split_at(length);
        results.push(proto::ImportResult::decode(message).expect("a result"));
        body = rest;
    }
    results
}

both! {
    async fn a_large_message_ends_the_stream_after_the_rows_before_it(mailing: Mailing) {
        let large = row(&"x".repeat(64 * 1024));
        let rows = vec![row(ANA), row("ben@example.com"), large, row("carl@example.com")];
        let (results, ended) = import(mailing.importer(), rows).await;
        assert_eq!(outcomes(&results), ["CREATED", "CREATED"]);
        let (field, problem) = violation(&refused(ended));
        assert_eq!((&*field, &*problem), ("request", "must have at most 65536 bytes"));
        mailing.assert_each_announced_once(2).await;
    }

    async fn an_unreadable_message_ends_the_stream_after_the_rows_before_it(mailing: Mailing) {
        let good = body_of(&[row(ANA)]);
        let mut cut = body_of(&[row("ben@example.com")]);
        cut.pop();
        let raw = RawConnection::open(mailing.0.addr).await;
        let authorization = bearer(IMPORTER);
        for (bad, expected) in [
            (framed(&[0xff; 10]), "CREATED"),
            (framed(b"\x12\x02\xff\xff"), "UNCHANGED"),
            (cut, "UNCHANGED"),
        ] {
            let body = [good.clone(), bad].concat();
            let answer = raw.call(IMPORT_USERS, &[("authorization", &authorization)], body).await.expect("an answer");
            assert_eq!(outcomes(&results(&answer)), [expected]);
            let (field, problem) = violation(&answer.status().expect("a status"));
            assert_eq!((&*field, &*problem), ("request", "cannot be read"));
        }
        mailing.assert_each_announced_once(1).await;
    }

    async fn a_stream_ends_at_the_deadline_of_its_caller(mailing: Mailing) {
        let connection = BareConnection::open(mailing.0.addr).await;
        let mut client = AdminServiceClient::with_origin(connection, Uri::from_static("http://localhost"));
        let (sender, stream) = rows_of_a_stream();
        sender.send(row(ANA)).expect("it is open");
        let mut request: Request<_> = with_bearer(stream, IMPORTER);
        request.set_timeout(Duration::from_millis(500));
        let mut results = client.import_users(request).await.expect("it begins").into_inner();
        assert!(results.message().await.expect("in time").is_some());
        let status = refused(results.message().await);
        assert_eq!(reason(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
        mailing.assert_each_announced_once(1).await;
    }

    async fn a_stream_ends_when_the_service_stops(mailing: Mailing) {
        let mut stream = ImportStream::open(mailing.importer()).await.expect("it may import");
        stream.import(row(ANA)).await.expect("no error");
        let begun = Instant::now();
        let (stopped, (results, ended)) = tokio::join!(mailing.0.stop(), async {
            let end = stream.results.message().await;
            (stream, end)
        });
        let status = refused(ended);
        assert_eq!(reason(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert!(retry_after(&status).is_some());
        stopped.0.expect("it stops in order");
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(stopped.1.count(USERS).await, 1);
        drop(results);
    }

    /// Its end cannot be sent either, so its connection is closed.
    async fn a_stream_that_nobody_reads_does_not_hold_up_the_stop(mailing: Mailing) {
        let client = admin(connect_without_window(mailing.0.addr).await, IMPORTER);
        let stream = ImportStream::open(client).await.expect("it may import");
        stream.send(row(ANA));
        mailing.0.database.wait_for(USERS, 1).await;
        let begun = Instant::now();
        mailing.0.stop().await.0.expect("it stops in order");
        assert!(begun.elapsed() < Duration::from_secs(8), "10 s without a read would end it too");
        drop(stream);
    }

    async fn a_fast_stream_ends_when_the_service_stops(mailing: Mailing) {
        let rows = rows(20_000);
        let mut stream = ImportStream::open(mailing.importer()).await.expect("it may import");
        for row in rows {
            stream.send(row);
        }
        stream.results.message().await.expect("no error").expect("a result");
        let (stopped, (results, ended)) = tokio::join!(mailing.0.stop(), stream.end());
        stopped.0.expect("it stops in order");
        assert_eq!(reason(&refused(ended)), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        // One was read before. Each result that was sent is in the database, and nothing else.
        let users = stopped.1.count(USERS).await;
        assert_eq!(i64::try_from(results.len() + 1).unwrap(), users);
        assert_eq!(stopped.1.count(EVENTS).await, users);
    }
}
