//! No other process of the same user can read the memory of the service.

use std::{fs, time::Duration};

use tokio::time::sleep;

use crate::harness::{Backend, Process, TestDatabase, without_capabilities};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_leaves_no_core_dump() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let process = Process::serve(&database, &[]);
    process.grpc_addr().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"]);
}

/// The kernel lets a process of the same user read the memory only of a dumpable process. Root may
/// read any, but not without its capabilities.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_of_the_same_user_can_look_into_its_memory() {
    let database = TestDatabase::create(Backend::Sqlite).await.unwrap();
    let process = Process::serve_without_capabilities(&database);
    process.grpc_addr().await;
    let looked = |pid: u32| {
        let file = format!("/proc/{pid}/environ");
        let mut cat = without_capabilities("cat".as_ref());
        cat.arg(file).output()
    };
    let output = looked(process.pid()).await.unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Permission denied"), "{said}");

    // The environment of another process can be read.
    let mut other = without_capabilities("sleep".as_ref());
    other.arg("60").env("WHO", "other").kill_on_drop(true);
    let child = other.spawn().unwrap();
    let other = child.id().unwrap();
    let text = format!("/proc/{other}/cmdline");
    while !fs::read(&text).unwrap().starts_with(b"sleep") {
        sleep(Duration::from_millis(10)).await; // until `setpriv` has started it
    }
    let output = looked(other).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("WHO=other"));
}
