//! The search in the memory, the log and the files of the database.

use std::{fs, net::SocketAddr, time::Duration};

use aho_corasick::AhoCorasick;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};

use super::{
    Storage,
    traffic::{Traffic, random_text},
};
use crate::harness::{DATA_KEY, INTERNAL_TOKEN, JWT_SECRET, Needles, PREFACE, Process, memory_of};

pub async fn assert_memory_is_clean(process: &Process, traffic: &Traffic, addr: SocketAddr) {
    let (needles, mut planted) = (traffic.needles(), Needles::default());
    let needle = random_text();
    planted.add("planted", needle.as_bytes());
    let open = half_a_frame(addr, &needle).await;

    // The known text is in the read buffer of the open connection as soon as it has arrived.
    let Some(_) = eventually(process, |memory| !found(&planted, memory).is_empty()).await else {
        return;
    };
    drop(open);
    let closed = |memory: &[(String, Vec<u8>)]| {
        connections(addr) == 0
            && found(&planted, memory).is_empty()
            && found(&needles, memory).is_empty()
    };
    let Some(clean) = eventually(process, closed).await else {
        return;
    };
    let memory = memory_of(process.pid()).expect("it could be read before");
    let bytes: usize = memory.iter().map(|(_, bytes)| bytes.len()).sum();
    eprintln!(
        "{bytes} bytes of memory in {} regions, {} secrets: {} passwords, {} refresh tokens and {} \
         tokens of mails",
        memory.len(),
        needles.len(),
        traffic.passwords.len(),
        traffic.refresh_tokens.len(),
        traffic.mail_tokens.len(),
    );
    let all = [found(&needles, &memory), found(&planted, &memory)].concat();
    assert!(clean, "{} secrets are left: {all:#?}", all.len());
    // The configuration stays in memory, so its secret must be found.
    let mut kept = Needles::default();
    kept.add("JWT_SECRET", JWT_SECRET.as_bytes());
    assert!(!found(&kept, &memory).is_empty());
}

/// Reads the memory until `condition` holds, for at most ten seconds. `None` if this user may
/// not read it.
async fn eventually(
    process: &Process,
    condition: impl Fn(&[(String, Vec<u8>)]) -> bool,
) -> Option<bool> {
    for _ in 0..40 {
        if condition(&memory_of(process.pid())?) {
            return Some(true);
        }
        sleep(Duration::from_millis(250)).await;
    }
    Some(false)
}

fn found(needles: &Needles, memory: &[(String, Vec<u8>)]) -> Vec<String> {
    let found = memory.iter().flat_map(|(region, bytes)| {
        let found = needles.found_in(bytes).into_iter();
        found.map(move |(name, around)| format!("{name} in {region}: {around}"))
    });
    found.collect()
}

fn holds(files: &[(String, Vec<u8>)], text: &str) -> bool {
    let search = AhoCorasick::new([text]).expect("one short text");
    files.iter().any(|(_, bytes)| search.is_match(bytes))
}

/// A connection that sent only the beginning of a frame.
async fn half_a_frame(addr: SocketAddr, content: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("it accepts");
    let length = u16::try_from(content.len() + 100)
        .expect("short")
        .to_be_bytes();
    let data = [0, length[0], length[1], 0, 0, 0, 0, 0, 1];
    let bytes = [PREFACE, &data, content.as_bytes()].concat();
    stream.write_all(&bytes).await.expect("it reads");
    stream
}

/// The number of connections that the process has not closed: all on its port but the listener
/// (0A) and those that only the kernel keeps (06, `TIME_WAIT`).
fn connections(addr: SocketAddr) -> usize {
    let port = format!(":{:04X}", addr.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let open = table.lines().filter(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && !["0A", "06"].contains(&fields[3])
    });
    open.count()
}

pub fn assert_log_is_clean(log: &[String], traffic: &Traffic) {
    let mut needles = traffic.needles();
    for email in &traffic.emails {
        needles.add(email, email.as_bytes());
    }
    needles.add("internal token", INTERNAL_TOKEN.as_bytes());
    needles.add("JWT_SECRET", JWT_SECRET.as_bytes());
    needles.add("DATA_KEY", DATA_KEY.as_bytes());
    let log = log.join("\n");
    assert_eq!(needles.found_in(log.as_bytes()), []);
    assert!(
        !log.contains("$2b$1") && !log.contains("sealed:1:"),
        "a hash"
    );
    eprintln!("{} bytes of log, {} secrets", log.len(), needles.len());
    // This proves that it is the log of these calls at the most verbose level.
    for expected in ["event written", "upgraded a password hash", "reused"] {
        assert!(log.contains(expected), "{expected}");
    }
    let mut needles = Needles::default();
    needles.add("a line of the log", b"upgraded a password hash");
    assert!(!needles.found_in(log.as_bytes()).is_empty());
}

pub async fn assert_database_is_clean(storage: &Storage, traffic: &Traffic) {
    // A deleted row: the search must find it in the file and in the journal.
    let planted = random_text();
    let plant = format!(
        "CREATE TABLE planted (text text); INSERT INTO planted VALUES ('{planted}'); \
         DELETE FROM planted;"
    );
    storage.database.execute(&plant).await;
    let files = storage.files().await;
    let (mut needles, mut kept) = (traffic.needles(), Needles::default());
    needles.add("JWT_SECRET", JWT_SECRET.as_bytes());
    needles.add("DATA_KEY", DATA_KEY.as_bytes());
    needles.add("internal token", INTERNAL_TOKEN.as_bytes());
    assert_eq!(found(&needles, &files), [] as [String; 0]);
    // Not even in a deleted row. The seals show that the search works.
    assert!(holds(&files, "sealed:1:") && !holds(&files, "$2b$1"));
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    eprintln!(
        "{bytes} bytes in {} files of the database, {} secrets",
        files.len(),
        needles.len()
    );

    kept.add("planted", planted.as_bytes());
    kept.add("an e-mail address", traffic.emails[0].as_bytes());
    let found = found(&kept, &files);
    for name in ["planted", "an e-mail address"] {
        let found = found.iter().filter(|place| place.starts_with(name));
        let journal = found.clone().filter(|place| place.contains("wal"));
        // SQLite may have moved the journal into the file and wiped the deleted row there.
        let enough = journal.count() > 0 && (storage.server.is_none() || found.count() > 1);
        assert!(enough, "{name} is not found everywhere");
    }
}
