//! No password and no refresh token stays anywhere: not in the memory of the process once
//! the connections are closed, not in its log at the most verbose level, not in the files of
//! the database, where dead rows and the journal are too.
//!
//! A search that finds nothing proves nothing unless it can find something: in each place
//! there is a needle that must be there.

use std::{fs, net::SocketAddr, time::Duration};

use auth_service::proto::{self, auth_service_client::AuthServiceClient};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};
use tonic::{Code, Request, Status, transport::Channel};

use crate::harness::{
    self, Backend, INTERNAL_TOKEN, JWT_SECRET, Needles, OnBackend, PostgresServer, Process,
    RawConnection, TestDatabase, both, connect, delete_account, end_session, framed, memory_of,
    refresh, soak,
};

const LOGIN: &str = "/realchat.auth.v1.AuthService/Login";

/// Every secret that went over the wire.
#[derive(Default)]
struct Traffic {
    passwords: Vec<String>,
    refresh_tokens: Vec<String>,
    /// Kept, so that they may be in memory and in the database, but never in a log.
    emails: Vec<String>,
}

impl Traffic {
    /// A password like no other text.
    fn password(&mut self) -> String {
        let password = random_text();
        self.passwords.push(password.clone());
        password
    }

    fn email(&mut self) -> String {
        let local_part = random_text().to_lowercase();
        let email = format!("{}@example.com", local_part.replace(['-', '_'], "0"));
        self.emails.push(email.clone());
        email
    }

    fn token(&mut self, tokens: Option<proto::TokenPair>) -> String {
        let token = tokens.expect("tokens").refresh_token;
        self.refresh_tokens.push(token.clone());
        token
    }

    /// What must be nowhere.
    fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        for (n, password) in self.passwords.iter().enumerate() {
            needles.add(format!("password {n}"), password.as_bytes());
        }
        for (n, token) in self.refresh_tokens.iter().enumerate() {
            needles.add(format!("refresh token {n}"), token.as_bytes());
            let bytes = BASE64URL.decode(&token["rcr_".len()..]).expect("base64url");
            needles.add(format!("secret of refresh token {n}"), &bytes[16..48]);
        }
        needles
    }
}

/// 48 characters of base64url.
fn random_text() -> String {
    let mut bytes = [0; 36];
    getrandom::fill(&mut bytes).expect("randomness");
    BASE64URL.encode(bytes)
}

fn start(folder: &TempDir, database: &TestDatabase, cost: &str) -> Process {
    let (url, internal_tokens) = (database.url(), format!("gateway:{INTERNAL_TOKEN}"));
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("GRPC_ADDR", "127.0.0.1:0"),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("JWT_SECRET", JWT_SECRET),
        ("INTERNAL_TOKENS", &internal_tokens),
        ("BCRYPT_COST", cost),
        ("PASSWORD_MAX_WAIT", "9s"),
        // It mistypes more often than anybody may.
        ("THROTTLE_FREE_PER_PAIR", "1000000"),
        ("THROTTLE_FREE_PER_ACCOUNT", "1000000"),
        ("LOG", "trace"),
        ("LOG_FORMAT", "json"),
    ];
    Process::start(folder.path(), &[], &variables)
}

/// A database whose files can be read: of Postgres, a server of the test's own.
struct Storage {
    database: TestDatabase,
    server: Option<PostgresServer>,
}

impl OnBackend for Storage {
    async fn on(backend: Backend) -> Option<Self> {
        let (database, server) = match backend {
            Backend::Sqlite => (TestDatabase::create(backend).await?, None),
            Backend::Postgres => {
                let server = PostgresServer::start().await?;
                (
                    TestDatabase::create_at(&server.url(), "").await,
                    Some(server),
                )
            }
        };
        Some(Self { database, server })
    }
}

impl Storage {
    /// What is in each of its files, once it has written what it holds back.
    async fn files(&self) -> Vec<(String, Vec<u8>)> {
        let Some(server) = &self.server else {
            let file = self
                .database
                .sqlite_file()
                .expect("a file")
                .display()
                .to_string();
            let parts = ["", "-wal", "-shm"].map(|part| format!("{file}{part}"));
            let read = parts.map(|part| {
                let bytes = fs::read(&part).expect("the journal is there too");
                (part, bytes)
            });
            return read.into();
        };
        self.database.execute("CHECKPOINT").await;
        server.files()
    }
}

both! {
    async fn no_secret_is_left_anywhere(storage: Storage) {
        let database = &storage.database;
        let folder = tempfile::tempdir().unwrap();
        let mut traffic = Traffic::default();

        // Accounts whose next login brings their hash to another cost.
        let mut process = start(&folder, database, "10");
        let mut old = Vec::new();
        let mut client = AuthServiceClient::new(connect(process.grpc_addr().await).await);
        for _ in 0..soak(4, 40) {
            let (email, password) = (traffic.email(), traffic.password());
            client.register(registration(&email, &password)).await.unwrap();
            old.push((email, password));
        }
        drop(client);
        process.signal("TERM");
        process.exit_code().await;
        let mut log = process.log();

        let process = start(&folder, database, "11");
        let addr = process.grpc_addr().await;
        for (email, password) in &old {
            sign_in(&mut traffic, addr, email, password).await;
        }
        for _ in 0..soak(4, 40) {
            live(&mut traffic, addr).await;
            manage(&mut traffic, addr).await;
            fumble(&mut traffic, addr).await;
            abuse(&mut traffic, addr).await;
        }
        let costs = "SELECT DISTINCT substr(password_hash, 1, 7) FROM users";
        assert_eq!(database.texts(costs).await, [Some("$2b$11$".to_owned())], "all upgraded");

        assert_memory_is_clean(&process, &traffic, addr).await;
        log.extend(process.log());
        assert_log_is_clean(&log, &traffic);
        assert_database_is_clean(&storage, &traffic).await;
    }
}

fn registration(email: &str, password: &str) -> proto::RegisterRequest {
    proto::RegisterRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        start_session: true,
        ..Default::default()
    }
}

fn login(email: &str, password: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

async fn client(addr: SocketAddr) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(connect(addr).await)
}

async fn sign_in(traffic: &mut Traffic, addr: SocketAddr, email: &str, password: &str) -> String {
    let answer = client(addr).await.login(login(email, password)).await;
    traffic.token(answer.expect("the password is right").into_inner().tokens)
}

/// An account's life as it should be.
async fn live(traffic: &mut Traffic, addr: SocketAddr) {
    let mut client = client(addr).await;
    let (email, password) = (traffic.email(), traffic.password());
    let registered = client.register(registration(&email, &password)).await;
    let first = traffic.token(registered.expect("registers").into_inner().tokens);
    // Not in normal form: the service makes another text of it.
    let (accented, other) = (format!("e\u{301}{}", traffic.password()), traffic.email());
    let registered = client.register(registration(&other, &accented)).await;
    traffic.token(registered.expect("registers").into_inner().tokens);
    sign_in(traffic, addr, &other, &accented).await;

    let mut token = first.clone();
    for _ in 0..3 {
        for _lost_reply in 0..2 {
            let answer = client.refresh(refresh(&token)).await;
            traffic.token(answer.expect("refreshes").into_inner().tokens);
        }
        token.clone_from(traffic.refresh_tokens.last().expect("just pushed"));
    }
    // The first token again is reuse.
    expect(client.refresh(refresh(&first)).await, Code::Unauthenticated);
    let token = sign_in(traffic, addr, &email, &password).await;
    let logout = proto::LogoutRequest {
        refresh_token: token,
    };
    client.logout(logout).await.expect("logs out");
}

/// What people do with their accounts, slips of the hand included.
async fn manage(traffic: &mut Traffic, addr: SocketAddr) {
    let (email, password, new) = (traffic.email(), traffic.password(), traffic.password());
    let registered = client(addr)
        .await
        .register(registration(&email, &password))
        .await;
    let tokens = registered.expect("registers").into_inner().tokens;
    let mut account = harness::account(
        connect(addr).await,
        &tokens.as_ref().expect("tokens").access_token,
    );
    traffic.token(tokens);
    sign_in(traffic, addr, &email, &password).await;

    for (current, new, code) in [
        (
            traffic.password(),
            traffic.password(),
            Code::Unauthenticated,
        ),
        (password.clone(), password.clone(), Code::InvalidArgument),
        (password.clone(), new.repeat(2), Code::InvalidArgument),
        (password.clone(), format!("{new}\0"), Code::InvalidArgument),
        (
            traffic.password().repeat(2),
            new.clone(),
            Code::Unauthenticated,
        ),
    ] {
        expect(account.change_password(change(&current, &new)).await, code);
    }
    account
        .change_password(change(&password, &new))
        .await
        .expect("it is right");
    let accented = format!("e\u{301}{}", traffic.password());
    account
        .change_password(change(&new, &accented))
        .await
        .expect("it is right");
    let misplaced = traffic.password();
    expect(
        account.end_session(end_session(&misplaced)).await,
        Code::InvalidArgument,
    );
    let mut stranger = harness::account(connect(addr).await, &misplaced);
    expect(
        stranger.end_session(end_session(&misplaced)).await,
        Code::Unauthenticated,
    );

    sign_in(traffic, addr, &email, &accented).await;
    account
        .list_sessions(proto::ListSessionsRequest {})
        .await
        .expect("signed in");
    account
        .end_other_sessions(proto::EndOtherSessionsRequest {})
        .await
        .expect("signed in");
    for wrong in [password, new] {
        expect(
            account.delete_account(delete_account(&wrong)).await,
            Code::Unauthenticated,
        );
    }
    account
        .delete_account(delete_account(&accented))
        .await
        .expect("it is right");
}

fn change(current: &str, new: &str) -> proto::ChangePasswordRequest {
    proto::ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
    }
}

/// What people mistype.
async fn fumble(traffic: &mut Traffic, addr: SocketAddr) {
    let mut client = client(addr).await;
    let known = traffic.emails[0].clone();
    let unknown = traffic.email();
    for email in [known.as_str(), &unknown, "no address"] {
        let wrong = traffic.password();
        let too_long = traffic.password().repeat(2);
        let with_nul = format!("{}\0{}", traffic.password(), traffic.password());
        let immense = traffic.password().repeat(1000);
        for password in [wrong, too_long, with_nul, immense] {
            expect(
                client.login(login(email, &password)).await,
                Code::Unauthenticated,
            );
        }
    }
    for password in [
        traffic.password().repeat(2),
        format!("{}\0", traffic.password()),
    ] {
        let request = registration(&traffic.email(), &password);
        expect(client.register(request).await, Code::InvalidArgument);
    }
    expect(
        client
            .register(registration(&known, &traffic.password()))
            .await,
        Code::AlreadyExists,
    );
    // A password in the field of the address.
    let swapped = traffic.password();
    expect(
        client.login(login(&swapped, &unknown)).await,
        Code::Unauthenticated,
    );
    expect(
        client.register(registration(&swapped, &unknown)).await,
        Code::InvalidArgument,
    );
    // A refresh token where an internal token belongs, and a broken one where one belongs.
    let token = traffic.refresh_tokens[0].clone();
    let mut request = Request::new(proto::GetSigningKeyRequest {});
    let bearer = format!("Bearer {token}").parse().expect("a header");
    request.metadata_mut().insert("authorization", bearer);
    expect(
        client.get_signing_key(request).await,
        Code::PermissionDenied,
    );
    expect(
        client.refresh(refresh(&format!("{token}A"))).await,
        Code::Unauthenticated,
    );
    expect(
        client.refresh(refresh(&traffic.password())).await,
        Code::Unauthenticated,
    );
    // One that is right.
    let mut request = Request::new(proto::GetSigningKeyRequest {});
    let bearer = format!("Bearer {INTERNAL_TOKEN}")
        .parse()
        .expect("a header");
    request.metadata_mut().insert("authorization", bearer);
    client
        .get_signing_key(request)
        .await
        .expect("the token is right");
}

/// Calls that are cut short or cannot be read.
async fn abuse(traffic: &mut Traffic, addr: SocketAddr) {
    // Calls that are dropped, whose streams are reset then: one that is about to be sent, and
    // one that the server has, since it has answered another that came later.
    for wait_for_server in [false, true] {
        let (mut client, request) = (
            client(addr).await,
            login("a@example.com", &traffic.password()),
        );
        let mut later = client.clone();
        tokio::select! {
            biased;
            _ = client.login(request) => {}
            _ = later.refresh(refresh("junk")), if wait_for_server => {}
            () = std::future::ready(()), if !wait_for_server => {}
        }
    }
    let raw = RawConnection::open(addr).await;
    let whole = framed(&login("a@example.com", &traffic.password()).encode_to_vec());
    // The length says more than there is; the password is no UTF-8; the frame is too large.
    let cut = whole[..whole.len() - 1].to_vec();
    let mut no_utf8 = framed(&login("a@example.com", &traffic.password()).encode_to_vec());
    *no_utf8.last_mut().expect("not empty") = 0xff;
    let too_large =
        framed(&login("a@example.com", &traffic.password().repeat(2000)).encode_to_vec());
    for body in [cut, no_utf8, too_large] {
        raw.call(LOGIN, &[], body).await.ok();
    }
    let header = traffic.password();
    for headers in [
        ("authorization", header.as_str()),
        ("x-password", &header),
        ("traceparent", &header),
    ] {
        raw.call(LOGIN, &[headers], whole.clone())
            .await
            .expect("an answer");
    }
    let path = format!("/realchat.auth.v1.AuthService/{}", traffic.password());
    raw.call(&path, &[], whole.clone())
        .await
        .expect("an answer");
    let late = [("grpc-timeout", "1m")];
    raw.call(LOGIN, &late, whole).await.expect("an answer");
}

fn expect<T>(answer: Result<T, Status>, code: Code) {
    assert_eq!(answer.err().map(|status| status.code()), Some(code));
}

async fn assert_memory_is_clean(process: &Process, traffic: &Traffic, addr: SocketAddr) {
    let (needles, mut planted) = (traffic.needles(), Needles::default());
    let needle = random_text();
    planted.add("planted", needle.as_bytes());
    let open = half_a_frame(addr, &needle).await;

    // It is in the read buffer of the open connection, once it has arrived there.
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
        "{bytes} bytes of memory in {} regions, {} secrets: {} passwords and {} refresh tokens",
        memory.len(),
        needles.len(),
        traffic.passwords.len(),
        traffic.refresh_tokens.len(),
    );
    let all = [found(&needles, &memory), found(&planted, &memory)].concat();
    assert!(clean, "{} secrets are left: {all:#?}", all.len());
    // What the configuration holds must be found.
    let mut kept = Needles::default();
    kept.add("JWT_SECRET", JWT_SECRET.as_bytes());
    assert!(!found(&kept, &memory).is_empty());
}

/// Whether a look at the memory satisfies `condition` before long. `None` without a look.
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

/// A connection that sent the beginning of a frame and no more.
async fn half_a_frame(addr: SocketAddr, content: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("it accepts");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let length = u16::try_from(content.len() + 100)
        .expect("short")
        .to_be_bytes();
    let data = [0, length[0], length[1], 0, 0, 0, 0, 0, 1];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let bytes = [preface.as_slice(), &settings, &data, content.as_bytes()].concat();
    stream.write_all(&bytes).await.expect("it reads");
    stream
}

/// How many connections the process has not closed yet: whatever is bound to its port, but
/// the listener (0A) and what only the kernel still knows (06, `TIME_WAIT`).
fn connections(addr: SocketAddr) -> usize {
    let port = format!(":{:04X}", addr.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let open = table.lines().filter(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && !["0A", "06"].contains(&fields[3])
    });
    open.count()
}

fn assert_log_is_clean(log: &[String], traffic: &Traffic) {
    let mut needles = traffic.needles();
    for email in &traffic.emails {
        needles.add(email, email.as_bytes());
    }
    needles.add("internal token", INTERNAL_TOKEN.as_bytes());
    needles.add("JWT_SECRET", JWT_SECRET.as_bytes());
    let log = log.join("\n");
    assert_eq!(needles.found_in(log.as_bytes()), []);
    eprintln!("{} bytes of log, {} secrets", log.len(), needles.len());
    // It is the log of these calls, at the most verbose level.
    for expected in ["event written", "upgraded the cost", "reused"] {
        assert!(log.contains(expected), "{expected}");
    }
    let mut needles = Needles::default();
    needles.add("a line of the log", b"upgraded the cost of a password hash");
    assert!(!needles.found_in(log.as_bytes()).is_empty());
}

async fn assert_database_is_clean(storage: &Storage, traffic: &Traffic) {
    // A row that is dead: what can be found must be found there and in the journal.
    let planted = random_text();
    let plant = format!(
        "CREATE TABLE planted (text text); INSERT INTO planted VALUES ('{planted}'); \
         DELETE FROM planted;"
    );
    storage.database.execute(&plant).await;
    let files = storage.files().await;
    let (mut needles, mut kept) = (traffic.needles(), Needles::default());
    needles.add("JWT_SECRET", JWT_SECRET.as_bytes());
    needles.add("internal token", INTERNAL_TOKEN.as_bytes());
    assert_eq!(found(&needles, &files), [] as [String; 0]);
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
        // SQLite's journal may have been moved into the file, and the dead row be wiped there.
        let enough = journal.count() > 0 && (storage.server.is_none() || found.count() > 1);
        assert!(enough, "{name} is not found everywhere");
    }
}
