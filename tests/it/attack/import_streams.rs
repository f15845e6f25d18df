//! Streams of imports: how many there may be, and how long they last.

use std::time::Duration;

use tokio::{net::TcpStream, time::sleep};
use tonic::Code;

use super::{
    exhaustion::allow_descriptors,
    target::{Target, start},
};
use crate::harness::{
    Admin, IMPORTER, ImportStream, Service, admin, connect, outcome, reason, refused, retry_after,
    row, skip,
};

const TOKENS: &str = "importer:a-token-of-an-importer-with-40-characters";
const SCOPES: &str = "importer=import";
const OPTIONS: [&str; 4] = ["--internal-tokens", TOKENS, "--internal-scopes", SCOPES];

fn importer(service: &Service) -> Admin {
    admin(service.channel(), IMPORTER)
}

async fn open(client: Admin) -> ImportStream {
    ImportStream::open(client).await.expect("it may import")
}

#[tokio::test(flavor = "multi_thread")]
async fn few_imports_run_at_once() {
    let service = start(&OPTIONS, |_| {}).await;
    let mut running = Vec::new();
    for _ in 0..16 {
        running.push(open(importer(&service)).await);
    }
    let one_more = ImportStream::open(importer(&service)).await.map(drop);
    let status = refused(one_more);
    let expected = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(reason(&status), expected);
    assert!(retry_after(&status).is_some());
    // A caller without the scope takes none of them.
    drop(running.pop());
    let mut free = loop {
        for _ in 0..20 {
            let stranger = admin(service.channel(), "no token");
            let status = refused(ImportStream::open(stranger).await.map(drop));
            assert_eq!(status.code(), Code::PermissionDenied);
        }
        if let Ok(stream) = ImportStream::open(importer(&service)).await {
            break stream;
        }
    };
    free.import(row("ana@example.com")).await.expect("it runs");
    let first = &mut running[0];
    first.import(row("ben@example.com")).await.expect("it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_import_ends() {
    let service = start(&OPTIONS, |limits| {
        limits.import_silence = Duration::from_millis(300);
    })
    .await;
    let mut stream = open(importer(&service)).await;
    stream
        .import(row("ana@example.com"))
        .await
        .expect("it runs");
    let status = refused(stream.results.message().await);
    let expected = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    assert_eq!(reason(&status), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_outlasts_the_age_of_its_connection() {
    let service = start(&OPTIONS, |limits| {
        limits.connection_age = Duration::from_millis(200);
        limits.goaway_grace_period = Duration::from_millis(200);
    })
    .await;
    // The connection must not end before the import begins.
    let mut stream = loop {
        let client = admin(connect(service.addr).await, IMPORTER);
        if let Ok(stream) = ImportStream::open(client).await {
            break stream;
        }
    };
    for n in 0..4 {
        sleep(Duration::from_millis(300)).await;
        let result = stream.import(row(&format!("user-{n}@example.com"))).await;
        assert_eq!(outcome(&result.expect("it runs")), "CREATED");
    }
    stream.end().await.1.expect("it runs to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_not_closed_for_new_connections() {
    const BOUND: usize = 512;
    if !allow_descriptors(BOUND + 1000) {
        return skip("fewer than 1512 file descriptors for a process");
    }
    let variables = [("INTERNAL_TOKENS", TOKENS), ("INTERNAL_SCOPES", SCOPES)];
    let target = Target::with(&variables).await;
    let mut stream = open(admin(connect(target.addr).await, IMPORTER)).await;
    let mut idle = Vec::new();
    for _ in 0..BOUND + 50 {
        idle.push(TcpStream::connect(target.addr).await.expect("it accepts"));
    }
    target.process.wait_for("too many connections").await;
    let result = stream.import(row("ana@example.com")).await;
    assert_eq!(outcome(&result.expect("it runs")), "CREATED");
    target.assert_unharmed();
}
