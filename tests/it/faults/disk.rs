//! A full disk below either database.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::{
    EVENTS, PostgresServer, Service, TestDatabase, login, reason, register, skip,
};

/// A small file system. It is unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it for the owner of the folder. `None` unless this user is root; then the test was
    /// skipped.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let owner = fs::metadata(folder).expect("a folder");
        let options = format!(
            "size={size},mode=0700,uid={},gid={}",
            owner.uid(),
            owner.gid()
        );
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip("no small disk: only root may mount one");
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills the disk to its last byte.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("some free space");
        for size in [65_536, 4096, 1] {
            while filler
                .write(&vec![1; size])
                .is_ok_and(|written| written > 0)
            {}
        }
    }

    /// Frees the space again.
    fn clear(&self) {
        fs::remove_file(self.filler()).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Registers until the disk is full, frees it, and checks that all registered users can log in.
/// The health is not checked while the disk is full, because a small write may still succeed.
async fn fill_up(service: &Service, disk: &Disk) {
    let mut acknowledged = Vec::new();
    let refused = loop {
        if acknowledged.len() == 5 {
            disk.fill();
        }
        let email = format!("user-{}@example.com", acknowledged.len());
        match service.client().register(register(&email)).await {
            Ok(_) => acknowledged.push(email),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 1000, "the disk is not full");
    };
    assert_eq!(reason(&refused), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(refused.message(), "internal error");
    disk.clear();
    service.wait_for_health(ServingStatus::Serving).await;
    eprintln!("{} accounts before the disk was full", acknowledged.len());
    for email in &acknowledged {
        service
            .client()
            .login(login(email))
            .await
            .expect("nothing is lost");
    }
    service
        .client()
        .register(register("late@example.com"))
        .await
        .expect("there is free space");
    let accounts = service.database.count("SELECT count(*) FROM users").await;
    assert_eq!(accounts, i64::try_from(acknowledged.len()).unwrap() + 1);
    let events = service.database.count(EVENTS).await;
    assert_eq!(events, accounts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_below_postgres_is_an_outage_that_heals() {
    let Some(server) = PostgresServer::start().await else {
        return;
    };
    let folder = server.folder("disk");
    let Some(disk) = Disk::mount(&folder, "12m") else {
        return;
    };
    let setup = TestDatabase::create_at(&server.url(), "").await;
    let sql = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
    setup.execute(&sql).await;
    let database = TestDatabase::create_at(&server.url(), "TABLESPACE small").await;
    let service = Service::start(database, &[]).await;
    fill_up(&service, &disk).await;
    // The order matters: a mounted folder cannot be deleted.
    drop((service, disk, server));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_below_sqlite_is_an_outage_that_heals() {
    let folder = TempDir::new().unwrap();
    let Some(disk) = Disk::mount(folder.path(), "1m") else {
        return;
    };
    let database = TestDatabase::in_folder(folder.path());
    let service = Service::start(database, &[]).await;
    fill_up(&service, &disk).await;
    let _ = service.stop().await;
}
