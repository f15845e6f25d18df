//! Streams of imports: how many there may be, and how long they last.

use std::time::Duration;

use auth_service::proto;
use futures::future::join_all;
use tokio::{net::TcpStream, time::sleep};
use tonic::Code;

use super::{
    exhaustion::allow_descriptors,
    target::{Target, start},
};
use crate::harness::{
    Admin, IMPORTER, ImportStream, Service, USERS, admin, connect, connect_without_window, import,
    outcome, reason, refused, retry_after, row, rows, skip,
};

const TOKENS: &str = "importer:a-token-of-an-importer-with-40-characters";
const SCOPES: &str = "importer=import";
const OPTIONS: [&str; 4] = ["--internal-tokens", TOKENS, "--internal-scopes", SCOPES];

/// As documented.
const MAX_IMPORTS: usize = 4;

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
    for _ in 0..MAX_IMPORTS {
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

/// An import of enough rows whose results nobody takes.
async fn unread(service: &Service, first: usize) -> ImportStream {
    let client = admin(connect_without_window(service.addr).await, IMPORTER);
    let stream = open(client).await;
    for n in first..first + 2000 {
        stream.send(row(&format!("unread-{n}@example.com")));
    }
    let begun = format!("{USERS} WHERE email = 'unread-{first}@example.com'");
    service.database.wait_for(&begun, 1).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_that_nobody_reads_hold_up_no_other() {
    let service = start(&OPTIONS, |_| {}).await;
    let mut all = Vec::new();
    for n in 1..MAX_IMPORTS {
        all.push(unread(&service, n * 2000).await);
    }
    let (results, ended) = import(importer(&service), rows(1000)).await;
    ended.expect("it runs to its end");
    assert_eq!(results.len(), 1000);
    // Only rows with a place for their results were imported.
    let users = service.database.count(USERS).await;
    assert!(users < 1000 + 3 * 2000, "{users}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_nobody_reads_ends() {
    let service = start(&OPTIONS, |limits| {
        limits.import_silence = Duration::from_secs(3);
    })
    .await;
    let mut all = Vec::new();
    for n in 0..MAX_IMPORTS {
        all.push(unread(&service, n * 2000).await);
    }
    let no_place = ImportStream::open(importer(&service)).await.map(drop);
    assert_eq!(reason(&refused(no_place)).1, "OVERLOADED");
    let mut another = loop {
        if let Ok(stream) = ImportStream::open(importer(&service)).await {
            break stream;
        }
        sleep(Duration::from_millis(20)).await;
    };
    another
        .import(row("ana@example.com"))
        .await
        .expect("it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_of_large_rows_take_little_memory() {
    const BOUND_KIB: u64 = 32 * 1024;
    let variables = [("INTERNAL_TOKENS", TOKENS), ("INTERNAL_SCOPES", SCOPES)];
    let target = Target::with(&variables).await;
    let large = proto::ImportUser {
        roles: vec!["a".to_owned(); 600],
        ..row("ana@example.com")
    };
    let before = target.memory("VmHWM:");
    let imports = (0..MAX_IMPORTS).map(async |_| {
        let client = admin(connect(target.addr).await, IMPORTER);
        let (results, ended) = import(client, vec![large.clone(); 250]).await;
        ended.expect("it runs to its end");
        assert_eq!(results.len(), 250);
    });
    join_all(imports).await;
    let more = target.memory("VmHWM:") - before;
    assert!(more < BOUND_KIB, "{more} KiB");
    target.assert_unharmed();
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
