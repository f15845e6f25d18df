//! A session's whole life against a small model.
//!
//! The model knows the tokens in the order in which they were handed out, and four times.
//! Whatever clients do, in whatever order, at whatever time, clock steps back included: a
//! session has one live successor, it never forks, it ends once, and what has ended stays so.

use std::{fmt::Debug, sync::Arc, time::Duration};

use auth_service::{
    auth::{Issuer, SigningSecrets},
    model::{Clock as _, SessionId, Timestamp, UserId},
    proto::auth_service_client::AuthServiceClient,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::{runtime::Handle, sync::Barrier, task::JoinSet};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    Backend, JWT_SECRET, Random, RawConnection, START, Service, Session, TestDatabase, both,
    connect, end_session, framed, hex_of, logout, reason, refresh, refused, register, soak,
};

const IDLE: Duration = Duration::from_hours(24);
const MAX: Duration = Duration::from_hours(72);
const RETRY_WINDOW: Duration = Duration::from_secs(30);

/// What clients and the clock do. A token is named by its age: 0 is the current one.
#[derive(Clone, Debug)]
enum Step {
    Refresh {
        age: usize,
    },
    /// Several at once, on several connections.
    Race {
        age: usize,
        calls: usize,
    },
    /// Refreshes and a logout at once.
    RaceLogout {
        age: usize,
        calls: usize,
    },
    /// A right handle and a secret that never was.
    Forge,
    Logout {
        age: usize,
    },
    /// From another session of its user.
    EndByUser,
    Advance(Duration),
    TurnBack(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let age = || prop_oneof![6 => Just(0_usize), 3 => Just(1), 1 => 2..5_usize];
    let time = || {
        prop_oneof![
            4 => (0..40_u64).prop_map(Duration::from_secs),
            1 => Just(RETRY_WINDOW),
            1 => Just(RETRY_WINDOW + Duration::from_micros(1)),
            2 => (1..26_u64).prop_map(Duration::from_hours),
            1 => Just(IDLE),
        ]
    };
    prop_oneof![
        10 => age().prop_map(|age| Step::Refresh { age }),
        3 => (age(), 2..6_usize).prop_map(|(age, calls)| Step::Race { age, calls }),
        1 => (age(), 1..4_usize).prop_map(|(age, calls)| Step::RaceLogout { age, calls }),
        1 => Just(Step::Forge),
        1 => age().prop_map(|age| Step::Logout { age }),
        1 => Just(Step::EndByUser),
        6 => time().prop_map(Step::Advance),
        3 => time().prop_map(Step::TurnBack),
    ]
}

/// What a session must be like.
#[derive(Debug)]
struct Model {
    tokens: Vec<String>,
    rotated_at: Timestamp,
    expires_at: Timestamp,
    ends_at: Timestamp,
    /// Why it was ended, once it was.
    ended: Option<&'static str>,
}

/// What a refresh must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A token that never was before.
    Successor,
    /// The current one.
    Same,
    Refused,
}

impl Model {
    fn current(&self) -> &str {
        self.tokens.last().expect("a session has a token")
    }

    /// The token of this age, or the first one.
    fn token(&self, age: usize) -> &str {
        &self.tokens[self.tokens.len().saturating_sub(age + 1)]
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at && now < self.ends_at
    }

    /// Decides, and ends the session if this is reuse. A successor is to be [taken](Self::take).
    fn refresh(&mut self, token: &str, now: Timestamp) -> Expected {
        if !self.is_live(now) {
            return Expected::Refused;
        }
        if token == self.current() {
            return Expected::Successor;
        }
        let previous = self.tokens.iter().rev().nth(1).map(String::as_str);
        if previous == Some(token) && now.since(self.rotated_at) <= RETRY_WINDOW {
            return Expected::Same;
        }
        self.ended = Some("reuse");
        Expected::Refused
    }

    fn take(&mut self, successor: String, now: Timestamp) {
        self.tokens.push(successor);
        self.rotated_at = now;
        self.expires_at = now + IDLE;
    }

    fn log_out(&mut self, now: Timestamp) {
        self.end("logout", now);
    }

    fn end(&mut self, reason: &'static str, now: Timestamp) {
        if self.is_live(now) {
            self.ended = Some(reason);
        }
    }
}

/// A session whose row this test wrote itself, which costs no hash.
struct Play<'a> {
    service: &'a Service,
    clients: &'a [AuthServiceClient<Channel>],
    /// Another session of the user, which lives for ever.
    keeper: &'a Session,
    id: String,
    model: Model,
}

type Outcome = Result<(), TestCaseError>;

impl<'a> Play<'a> {
    async fn new(
        service: &'a Service,
        clients: &'a [AuthServiceClient<Channel>],
        keeper: &'a Session,
    ) -> Self {
        service.clock.set(START);
        let (token, id) = (Token::random(), uuid::Uuid::now_v7().simple().to_string());
        insert_sessions(&service.database, [(id.as_str(), &token)]).await;
        let model = Model {
            tokens: vec![token.text()],
            rotated_at: START,
            expires_at: START + IDLE,
            ends_at: START + MAX,
            ended: None,
        };
        Self {
            service,
            clients,
            keeper,
            id,
            model,
        }
    }

    async fn take(&mut self, step: Step) -> Outcome {
        let now = self.service.clock.now();
        match step {
            Step::Advance(by) => self.service.clock.set(now + by),
            Step::TurnBack(by) => self.service.clock.set(now - by),
            Step::Refresh { age } => self.race(age, 1).await?,
            Step::Race { age, calls } => self.race(age, calls).await?,
            Step::RaceLogout { age, calls } => self.race_logout(age, calls).await?,
            Step::Forge => {
                let mut forged = Token::parse(self.model.current());
                forged.secret[0] ^= 1;
                let forged = forged.text();
                self.model.refresh(&forged, now);
                let answers = self.refresh_at_once(&forged, 1, None).await;
                prop_assert!(answers[0].is_none());
            }
            Step::Logout { age } => {
                let token = self.model.token(age).to_owned();
                let mut client = self.clients[0].clone();
                prop_assert!(client.logout(logout(&token)).await.is_ok());
                self.model.log_out(now);
            }
            Step::EndByUser => {
                let id: uuid::Uuid = self.id.parse().expect("an id");
                let mut account = self.service.account_with(&access_token(self.keeper, now));
                let answer = account.end_session(end_session(&id.to_string())).await;
                prop_assert!(answer.is_ok());
                self.model.end("ended_by_user", now);
            }
        }
        self.check().await
    }

    /// Any number of refreshes with one token: all of them get the same answer.
    async fn race(&mut self, age: usize, calls: usize) -> Outcome {
        let now = self.service.clock.now();
        let token = self.model.token(age).to_owned();
        let answers = self.refresh_at_once(&token, calls, None).await;
        let expected = self.model.refresh(&token, now);
        for answer in &answers {
            prop_assert_eq!(answer, &answers[0], "a fork: {:?}", self.model);
        }
        match (expected, answers.into_iter().next().flatten()) {
            (Expected::Successor, Some(successor)) => {
                prop_assert!(!self.model.tokens.contains(&successor));
                self.model.take(successor, now);
            }
            (Expected::Same, Some(same)) => prop_assert_eq!(same.as_str(), self.model.current()),
            (Expected::Refused, None) => {}
            (expected, answer) => {
                prop_assert!(false, "{expected:?}, but {answer:?}: {:?}", self.model);
            }
        }
        Ok(())
    }

    /// The logout is before, between or after the refreshes: it always ends what lives, and
    /// whoever got a token got one and the same.
    async fn race_logout(&mut self, age: usize, calls: usize) -> Outcome {
        let now = self.service.clock.now();
        let token = self.model.token(age).to_owned();
        let any = self.model.token(1).to_owned();
        let was_live = self.model.is_live(now);
        let answers = self.refresh_at_once(&token, calls, Some(&any)).await;
        match self.model.refresh(&token, now) {
            Expected::Successor => {
                let granted: Vec<_> = answers.into_iter().flatten().collect();
                prop_assert!(granted.iter().all(|token| *token == granted[0]));
                if let Some(successor) = granted.into_iter().next() {
                    prop_assert!(!self.model.tokens.contains(&successor));
                    self.model.take(successor, now);
                }
            }
            Expected::Same => {
                let current = self.model.current();
                prop_assert!(answers.iter().flatten().all(|token| token == current));
            }
            Expected::Refused => {
                prop_assert!(answers.iter().all(Option::is_none));
                if was_live {
                    // Reuse or the logout came first.
                    self.model.ended = match self.revoke_reason().await.as_deref() {
                        Some("reuse") => Some("reuse"),
                        _ => Some("logout"),
                    };
                }
            }
        }
        self.model.log_out(now);
        Ok(())
    }

    /// The new refresh tokens, `None` for `INVALID_TOKEN`; any other answer is a failure.
    async fn refresh_at_once(
        &self,
        token: &str,
        calls: usize,
        log_out: Option<&str>,
    ) -> Vec<Option<String>> {
        let barrier = Arc::new(Barrier::new(calls + usize::from(log_out.is_some())));
        let mut answers = JoinSet::new();
        for call in 0..calls {
            let mut client = self.clients[call % self.clients.len()].clone();
            let (barrier, token) = (Arc::clone(&barrier), token.to_owned());
            answers.spawn(async move {
                barrier.wait().await;
                match client.refresh(refresh(&token)).await {
                    Ok(answer) => answer
                        .into_inner()
                        .tokens
                        .map(|tokens| tokens.refresh_token),
                    Err(status) => {
                        assert_invalid(&status);
                        None
                    }
                }
            });
        }
        if let Some(token) = log_out {
            let mut client = self.clients[calls % self.clients.len()].clone();
            barrier.wait().await;
            client.logout(logout(token)).await.expect("a logout is OK");
        }
        answers.join_all().await
    }

    async fn revoke_reason(&self) -> Option<String> {
        let id = literal(&self.service.database, &self.id);
        let sql = format!("SELECT revoke_reason FROM sessions WHERE id = {id}");
        self.service.database.text(&sql).await
    }

    /// The database is as the model says: one row, the right generation, ended once.
    async fn check(&self) -> Outcome {
        let database = &self.service.database;
        let id = literal(database, &self.id);
        let row = format!(
            "SELECT CAST(generation AS TEXT) || ' ' || coalesce(revoke_reason, 'lives') \
             FROM sessions WHERE id = {id}"
        );
        let generation = self.model.tokens.len();
        let expected = format!("{generation} {}", self.model.ended.unwrap_or("lives"));
        prop_assert_eq!(
            database.texts(&row).await,
            [Some(expected)],
            "{:?}",
            self.model
        );
        Ok(())
    }
}

/// A new access token, whatever time it is.
fn access_token(session: &Session, now: Timestamp) -> String {
    let secrets = SigningSecrets {
        current: JWT_SECRET.as_bytes().to_vec().into(),
        next: None,
        previous: Vec::new(),
    };
    let (name, audience) = ("realchat-auth".to_owned(), "realchat".to_owned());
    let issuer = Issuer::new(secrets, name, audience, RETRY_WINDOW);
    let user_id = UserId::parse(&session.user_id).expect("an id");
    let session_id = SessionId::parse(&session.id).expect("an id");
    let token = issuer
        .issue(user_id, session_id, now)
        .expect("it is signed");
    token.jwt.expose_secret().to_owned()
}

fn assert_invalid(status: &Status) {
    let expected = (Code::Unauthenticated, "INVALID_TOKEN".to_owned());
    assert_eq!(reason(status), expected);
}

both! {
    async fn a_session_lives_as_the_model_says(database: TestDatabase) {
        let options = ["--refresh-token-ttl", "24h", "--session-max-age", "72h"];
        let service = Service::start(database, &options).await;
        let keeper = service.sign_up("ana@example.com").await;
        let end = service.database.time(START + 100 * IDLE);
        let for_ever = format!("UPDATE sessions SET expires_at = {end}, ends_at = {end}");
        service.database.execute(&for_ever).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(AuthServiceClient::new(connect(service.addr).await));
        }
        let cases = match service.database.backend() {
            Backend::Sqlite => soak(150, 5000),
            Backend::Postgres => soak(60, 2000),
        };
        let lives = prop::collection::vec(step(), 1..25);
        check(cases, &lives, async |steps| {
            let events = "SELECT count(*) FROM outbox_events WHERE event_type = 'SESSION_ENDED'";
            let before = service.database.count(events).await;
            let mut play = Play::new(&service, &clients, &keeper).await;
            for step in steps {
                play.take(step).await?;
            }
            let written = service.database.count(events).await - before;
            prop_assert_eq!(written, i64::from(play.model.ended.is_some()));
            Ok(())
        });
    }
}

/// Runs cases with a seed that is printed.
pub fn check<T: Debug>(
    cases: u32,
    strategy: &impl Strategy<Value = T>,
    test: impl AsyncFn(T) -> Outcome,
) {
    let seed = Random::new().bytes(32);
    let config = Config {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, random);
    let handle = Handle::current();
    let outcome =
        tokio::task::block_in_place(|| runner.run(strategy, |value| handle.block_on(test(value))));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

both! {
    async fn no_flipped_bit_passes(service: Service) {
        service.client().register(register("ana@example.com")).await.unwrap();
        let token = Token::random();
        let id = uuid::Uuid::now_v7().simple().to_string();
        insert_sessions(&service.database, [(id.as_str(), &token)]).await;
        let raw = RawConnection::open(service.addr).await;
        let text = token.text();

        // In the text, at every position; whatever is no UTF-8 any more included.
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let utf8 = std::str::from_utf8(&flipped).is_ok();
            let reason = refresh_bytes(&raw, &flipped).await;
            let expected = if utf8 { "INVALID_TOKEN" } else { "INVALID_ARGUMENT" };
            assert_eq!(reason, expected, "bit {bit}");
        }
        // In what the text says, the checksum included.
        for bit in 0..52 * 8 {
            let mut bytes = token.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = format!("rcr_{}", BASE64URL.encode(bytes));
            assert_eq!(refresh_bytes(&raw, flipped.as_bytes()).await, "INVALID_TOKEN", "bit {bit}");
        }
        // In the handle, with a right checksum: another session's, which there is not.
        for bit in 0..16 * 8 {
            let mut flipped = Token { ..token };
            flipped.handle[bit / 8] ^= 1 << (bit % 8);
            let flipped = flipped.text();
            assert_eq!(refresh_bytes(&raw, flipped.as_bytes()).await, "INVALID_TOKEN", "bit {bit}");
        }
        // None of that was reuse.
        let ended = "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL";
        assert_eq!(service.database.count(ended).await, 0);
        service.client().refresh(refresh(&text)).await.expect("the session lives");

        // In the secret, with a right checksum: by contract, that is reuse.
        let sessions: Vec<_> = (0..32 * 8)
            .map(|_| (uuid::Uuid::now_v7().simple().to_string(), Token::random()))
            .collect();
        let rows = sessions.iter().map(|(id, token)| (id.as_str(), token));
        insert_sessions(&service.database, rows).await;
        for (bit, (_, token)) in sessions.iter().enumerate() {
            let mut flipped = Token { ..*token };
            flipped.secret[bit / 8] ^= 1 << (bit % 8);
            for text in [flipped.text(), token.text()] {
                assert_eq!(refresh_bytes(&raw, text.as_bytes()).await, "INVALID_TOKEN", "bit {bit}");
            }
        }
        assert_eq!(service.database.count(ended).await, 256);
    }

    async fn a_dump_of_the_database_gives_no_token(service: Service) {
        service.client().register(register("ana@example.com")).await.unwrap();
        let first = Token::random();
        let id = uuid::Uuid::now_v7().simple().to_string();
        insert_sessions(&service.database, [(id.as_str(), &first)]).await;
        let mut tokens = vec![first];
        for _ in 0..3 {
            let current = tokens.last().expect("the first").text();
            let answer = service.client().refresh(refresh(&current)).await.unwrap().into_inner();
            tokens.push(Token::parse(&answer.tokens.expect("tokens").refresh_token));
        }
        let session = dump(&service.database, &id).await;
        assert_eq!(session.len(), 5, "the id and four columns of 32 bytes");

        // Whatever one might make of the columns: all of them and all that XOR makes of
        // them, each also hashed, and as key and as message of the HMAC that seals.
        let mut secrets = Vec::new();
        for some in 1..1_u32 << 4 {
            let columns = session[1..].iter().enumerate();
            let chosen = columns.filter(|(n, _)| some >> n & 1 == 1).map(|(_, column)| column);
            let xor = chosen.fold([0; 32], |sum, column| xor(sum, to_32(column)));
            secrets.extend([xor, Sha256::digest(xor).into(), seal_pad(&xor)]);
        }
        for n in 0..secrets.len() {
            for column in &session[1..] {
                secrets.push(xor(secrets[n], to_32(column)));
            }
        }
        let mut handles: Vec<[u8; 16]> = vec![to_16(&session[0])];
        for column in &session[1..] {
            handles.extend([to_16(&column[..16]), to_16(&column[16..])]);
        }
        for token in &tokens {
            assert!(!handles.contains(&token.handle), "the handle can be read");
            assert!(!secrets.contains(&token.secret), "a secret can be read");
        }
        // The search finds what can be found: from the last secret but one, the last.
        let [.., before, last] = &tokens[..] else { unreachable!() };
        assert!(session[1..].iter().any(|c| xor(seal_pad(&before.secret), to_32(c)) == last.secret));

        let mut tried = 0;
        let mut client = service.client();
        for handle in handles {
            for secret in secrets.iter().take(soak(60, usize::MAX)) {
                let forged = Token { handle, secret: *secret }.text();
                assert_invalid(&refused(client.refresh(refresh(&forged)).await));
                tried += 1;
            }
        }
        eprintln!("{} secrets and {tried} tokens tried", secrets.len());
        // Nobody was logged out by that.
        client.refresh(refresh(&last.text())).await.expect("the session lives");
    }
}

/// The reason that a refresh with these bytes, UTF-8 or not, is refused for.
async fn refresh_bytes(raw: &RawConnection, token: &[u8]) -> String {
    // Field 1, length-delimited. A token is shorter than 128 bytes.
    let length = u8::try_from(token.len()).expect("short");
    let message = [&[0x0a, length], token].concat();
    let path = "/realchat.auth.v1.AuthService/Refresh";
    let answer = raw.call(path, &[], framed(&message)).await;
    let answer = answer.expect("an answer");
    let status = answer.status().expect("a status");
    reason(&status).1
}

/// A refresh token, as the design describes it.
#[derive(Debug)]
struct Token {
    handle: [u8; 16],
    secret: [u8; 32],
}

impl Token {
    fn random() -> Self {
        let (mut handle, mut secret) = ([0; 16], [0; 32]);
        getrandom::fill(&mut handle).expect("randomness");
        getrandom::fill(&mut secret).expect("randomness");
        Self { handle, secret }
    }

    fn parse(text: &str) -> Self {
        let bytes = BASE64URL.decode(&text["rcr_".len()..]).expect("base64url");
        Self {
            handle: to_16(&bytes[..16]),
            secret: to_32(&bytes[16..48]),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let body = [&self.handle[..], &self.secret[..]].concat();
        let checksum = crc32fast::hash(&body).to_be_bytes();
        [&body[..], &checksum].concat()
    }

    fn text(&self) -> String {
        format!("rcr_{}", BASE64URL.encode(self.bytes()))
    }
}

/// Writes sessions of the only user, started at [`START`].
async fn insert_sessions(
    database: &TestDatabase,
    sessions: impl IntoIterator<Item = (&str, &Token)>,
) {
    let time = |time: Timestamp| match database.backend() {
        Backend::Sqlite => time.as_micros().to_string(),
        Backend::Postgres => format!("timestamptz '{time}'"),
    };
    let bytes = |bytes: &[u8]| {
        let hex = hex_of(&Sha256::digest(bytes));
        match database.backend() {
            Backend::Sqlite => format!("x'{hex}'"),
            Backend::Postgres => format!(r"bytea '\x{hex}'"),
        }
    };
    let (start, expires, ends) = (time(START), time(START + IDLE), time(START + MAX));
    let mut sql = String::new();
    for (id, token) in sessions {
        let (id, handle, secret) = (
            literal(database, id),
            bytes(&token.handle),
            bytes(&token.secret),
        );
        let insert = format!(
            "INSERT INTO sessions (id, user_id, handle_hash, token_hash, generation, created_at, \
             rotated_at, expires_at, ends_at) SELECT {id}, id, {handle}, {secret}, 1, {start}, \
             {start}, {expires}, {ends} FROM users;"
        );
        sql.push_str(&insert);
    }
    database.execute(&sql).await;
}

/// The id and the columns of bytes of a session.
async fn dump(database: &TestDatabase, id: &str) -> Vec<Vec<u8>> {
    let columns = [
        "id",
        "handle_hash",
        "token_hash",
        "previous_token_hash",
        "sealed_successor",
    ];
    let mut values = Vec::new();
    for column in columns {
        let hex = match database.backend() {
            Backend::Sqlite => format!("hex({column})"),
            Backend::Postgres => format!(r"replace(replace({column}::text, '\x', ''), '-', '')"),
        };
        let sql = format!(
            "SELECT {hex} FROM sessions WHERE id = {}",
            literal(database, id)
        );
        values.push(unhex(&database.text(&sql).await.expect("not NULL")));
    }
    values
}

fn literal(database: &TestDatabase, id: &str) -> String {
    match database.backend() {
        Backend::Sqlite => format!("x'{id}'"),
        Backend::Postgres => format!("uuid '{id}'"),
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}

/// What a successor is XORed with.
fn seal_pad(secret: &[u8; 32]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key length");
    mac.chain_update(b"refresh successor")
        .finalize()
        .into_bytes()
        .into()
}

fn xor(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    std::array::from_fn(|n| a[n] ^ b[n])
}

fn to_16(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().expect("16 bytes")
}

fn to_32(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("32 bytes")
}
