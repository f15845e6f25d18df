//! A stream, from its first row to its last result.

use std::time::Duration;

use auth_service::proto;
use tokio::time::sleep;
use tonic::Code;

use super::{ANA, USERS};
use crate::{
    harness::{
        EVENTS, IMPORT_USERS, IMPORTER, INTERNAL_TOKEN, ImportStream, Process, RawConnection,
        TestDatabase, admin, assert_outage, bearer, body_of, both, connect, import, outcome,
        outcomes, reason, refused, row, rows,
    },
    rpc::recovery::{MAILER, Mailing, SUPPORT, mailing},
};

both! {
    async fn a_client_that_waits_for_each_result_gets_it(mailing: Mailing) {
        let mut stream = ImportStream::open(mailing.importer()).await.expect("it may import");
        for (index, email) in [(0, ANA), (1, "ben@example.com"), (2, ANA)] {
            let result = stream.import(row(email)).await.expect("no error");
            assert_eq!(result.index, index);
            let expected = if index < 2 { "CREATED" } else { "UNCHANGED" };
            assert_eq!(outcome(&result), expected);
        }
        let (results, ended) = stream.end().await;
        ended.expect("no error");
        assert!(results.is_empty());
    }

    async fn results_have_the_order_of_the_rows(mailing: Mailing) {
        let rows = rows(2000);
        let results = mailing.import(rows.clone()).await;
        assert!(results.iter().map(|result| result.index).eq(0..2000));
        assert!(results.iter().all(|result| outcome(result) == "CREATED"));
        mailing.assert_each_announced_once(2000).await;
        for (row, result) in rows.iter().zip(&results).step_by(400) {
            assert_eq!(mailing.user(&result.user_id).await.email, row.email);
        }
        let again = mailing.import(rows).await;
        assert!(again.iter().all(|result| outcome(result) == "UNCHANGED"));
        assert!(again.iter().zip(&results).all(|(again, first)| again.user_id == first.user_id));
    }

    async fn a_stream_that_breaks_is_sent_again(mailing: Mailing) {
        let rows = rows(1500);
        let raw = RawConnection::open(mailing.0.addr).await;
        let authorization = bearer(IMPORTER);
        let headers = [("authorization", &*authorization)];
        let going_on = raw.call_that_goes_on(IMPORT_USERS, &headers, body_of(&rows[..1000])).await;
        drop((going_on.expect("the first results"), raw));
        let first = mailing.import(vec![rows[0].clone()]).await.remove(0);
        let results = mailing.import(rows).await;
        assert_eq!((outcome(&results[0]).as_str(), &results[0].user_id), ("UNCHANGED", &first.user_id));
        assert!(outcomes(&results).iter().all(|it| it == "CREATED" || it == "UNCHANGED"));
        mailing.assert_each_announced_once(1500).await;
    }

    async fn a_slow_stream_lasts_longer_than_a_call(database: TestDatabase) {
        let options = ["--request-timeout", "400ms", "--password-max-wait", "300ms"];
        let mailing = mailing(database, &options).await;
        let mut stream = ImportStream::open(mailing.importer()).await.expect("it may import");
        for n in 0..3 {
            sleep(Duration::from_millis(500)).await;
            let result = stream.import(row(&format!("user-{n}@example.com"))).await;
            assert_eq!(outcome(&result.expect("in time")), "CREATED");
        }
        stream.end().await.1.expect("no error");
    }

    async fn an_outage_ends_the_stream_and_leaves_nothing_half_done(mailing: Mailing) {
        let mut stream = ImportStream::open(mailing.importer()).await.expect("it may import");
        stream.import(row(ANA)).await.expect("no error");
        mailing.0.database.execute("ALTER TABLE outbox_events RENAME TO gone").await;
        assert_outage(&refused(stream.import(row("ben@example.com")).await));
        mailing.0.database.execute("ALTER TABLE gone RENAME TO outbox_events").await;
        mailing.assert_each_announced_once(1).await;
        let rows = vec![row(ANA), row("ben@example.com")];
        assert_eq!(mailing.outcomes(rows).await, ["UNCHANGED", "CREATED"]);
        mailing.assert_each_announced_once(2).await;
    }

    async fn a_process_that_is_killed_in_an_import_leaves_whole_batches(database: TestDatabase) {
        let tokens = format!("importer:{IMPORTER}");
        let variables = [("INTERNAL_TOKENS", &*tokens), ("INTERNAL_SCOPES", "importer=import")];
        let rows = rows(3000);
        let mut killed = Process::serve(&database, &variables);
        let client = admin(connect(killed.grpc_addr().await).await, IMPORTER);
        let mut stream = ImportStream::open(client).await.expect("it may import");
        for row in rows.iter().cloned() {
            stream.send(row);
        }
        for _ in 0..500 {
            stream.results.message().await.expect("no error").expect("a result");
        }
        killed.signal("KILL");
        assert_eq!(killed.killed_by().await, Some(9));
        let (users, events) = (database.count(USERS).await, database.count(EVENTS).await);
        assert!((500..3000).contains(&users) && users == events, "{users} {events}");

        let process = Process::serve(&database, &variables);
        let client = admin(connect(process.grpc_addr().await).await, IMPORTER);
        let (results, ended) = import(client, rows).await;
        ended.expect("no error");
        let unchanged = outcomes(&results).iter().filter(|it| *it == "UNCHANGED").count();
        assert_eq!(i64::try_from(unchanged).unwrap(), users);
        assert_eq!(results.len(), 3000);
        assert_eq!(database.count(EVENTS).await, 3000);
        let twice = "SELECT count(*) FROM outbox_events WHERE user_version <> 1";
        assert_eq!(database.count(twice).await, 0);
    }

    async fn only_callers_with_the_scope_import(mailing: Mailing) {
        let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
        for token in [SUPPORT, MAILER, INTERNAL_TOKEN, "no token"] {
            let (results, ended) = import(admin(mailing.0.channel(), token), vec![row(ANA)]).await;
            assert_eq!((results.len(), reason(&refused(ended))), (0, denied.clone()));
        }
        let list = proto::ListUsersRequest::default();
        assert_eq!(reason(&refused(mailing.importer().list_users(list).await)), denied);
        assert_eq!(mailing.0.database.count(USERS).await, 0);
    }
}
