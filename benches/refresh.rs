//! Refresh, compared with its one UPDATE statement alone.

pub mod echo;
mod forged;

use std::{sync::Arc, time::Duration};

use auth_service::{
    app::SystemClock,
    db::{Db, NewSession},
    model::{Clock as _, Form, RefreshToken, SessionId, UserId},
    proto::{self, auth_service_client::AuthServiceClient},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use secrecy::ExposeSecret as _;
use tokio::sync::Mutex;
use tokio_postgres::Statement;
use tonic::transport::Channel;

use crate::{
    Result,
    load::{self, Client, closed_loop},
    postgres::{LESS, Measured, Postgres, medians},
    stats::median,
    table::Table,
    world::{Database, Service, data_keys, new_user},
};

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
/// The default of the service.
const CONNECTIONS: usize = 16;
const COUNTS: [usize; 3] = [16, 64, 256];
const BARE: &str = "bare UPDATE";
/// Sessions in the table that no client uses.
pub const OTHER_SESSIONS: i64 = 100_000;

pub async fn measure(table: &mut Table) -> Result<()> {
    let (database, db) = Database::migrated().await?;
    fill(&database).await?;
    let bench = Bench {
        postgres: Postgres::of(&database).await?,
        batched: Service::start(&database.url, &[]).await?,
        alone: Service::start_variant(&database.url, "alone").await?,
        database: &database,
        db: &db,
    };
    for count in COUNTS {
        let rounds = bench.rounds(count).await?;
        rates(table, &rounds, count, "", [">= 0.7x", ">= 1.5x"]);
        costs(table, &rounds, count);
    }
    match bench.postgres.limit() {
        Ok(_limited) => bench.with_less_cpu(table).await?,
        Err(error) => table.not_measured(LESS.trim_start_matches(", "), &*error),
    }
    forged::measure(table, &database, &bench.batched).await?;
    echo::compare(table, &database, &db, &bench.batched).await?;
    drop(bench);
    single(table, &database, &db).await?;
    database.drop().await
}

struct Bench<'a> {
    database: &'a Database,
    db: &'a Db,
    postgres: Postgres,
    batched: Service,
    alone: Service,
}

/// The medians of the bare statement, the service that does not batch, and the one that does.
type Rounds = [Measured; 3];

impl Bench<'_> {
    async fn rounds(&self, count: usize) -> Result<Rounds> {
        let mut bare = bare_clients(self.database, self.db, count).await?;
        let mut plain = clients(&self.alone, self.db, count).await?;
        let mut ours = clients(&self.batched, self.db, count).await?;
        let mut rounds = [const { Vec::new() }; 3];
        for round in 0..=ROUNDS {
            let measured = [
                self.postgres.measure(&mut bare, ROUND).await?,
                self.postgres.measure(&mut plain, ROUND).await?,
                self.postgres.measure(&mut ours, ROUND).await?,
            ];
            // The first round prepares the statements and fills the cache.
            if round > 0 {
                (rounds.iter_mut().zip(measured)).for_each(|(all, one)| all.push(one));
            }
        }
        Ok(rounds.map(|rounds| medians(&rounds)))
    }

    /// The clients and the service do not take the CPU of this server, and it has little.
    async fn with_less_cpu(&self, table: &mut Table) -> Result<()> {
        for (count, goal) in COUNTS.into_iter().zip([">= 1.6x", ">= 2.7x", ">= 4x"]) {
            let rounds = self.rounds(count).await?;
            rates(table, &rounds, count, LESS, ["", goal]);
            let [bare, _, ours] = rounds.map(|it| format!("{:.2}", it.rate * it.cpu / 1e6));
            let name = format!("Postgres, cores that it used, {count} clients{LESS}");
            table.row(&name, &ours, &format!("{bare} {BARE}"), "", "");
        }
        Ok(())
    }
}

fn rates(table: &mut Table, rounds: &Rounds, count: usize, server: &str, goals: [&str; 2]) {
    let [bare, plain, ours] = rounds.map(|measured| measured.rate);
    let name = |kind: &str| format!("Refresh, {count} clients, {kind}{server}");
    table.rates(&name("one by one"), plain, BARE, bare, goals[0]);
    table.rates(&name("batched"), ours, BARE, bare, goals[1]);
}

/// What the server pays, which depends little on the other load of the machine.
fn costs(table: &mut Table, rounds: &Rounds, count: usize) {
    let [bare, plain, ours] = rounds;
    let goal = match count {
        64 => "<= 0.4x",
        256 => "<= 0.25x",
        _ => "",
    };
    let name = |what: &str| format!("Postgres, {what} of a refresh, {count} clients");
    table.costs(&name("CPU"), ours.cpu, "us", BARE, bare.cpu, goal);
    table.costs(
        &name("CPU, one by one,"),
        plain.cpu,
        "us",
        BARE,
        bare.cpu,
        "",
    );
    table.costs(&name("WAL"), ours.wal, "B", BARE, bare.wal, "");
}

/// A single client: batches must cost it nothing.
async fn single(table: &mut Table, database: &Database, db: &Db) -> Result<()> {
    let batched = Service::start_variant(&database.url, "batched").await?;
    let alone = Service::start_variant(&database.url, "alone").await?;
    let mut plain = clients(&alone, db, 1).await?;
    let mut ours = clients(&batched, db, 1).await?;
    let mut p50s = [const { Vec::new() }; 2];
    for _ in 0..3 * ROUNDS {
        let p50 = |measured: load::Measured| measured.percentile(0.5);
        p50s[0].push(p50(closed_loop(&mut plain, ROUND / 3).await?));
        p50s[1].push(p50(closed_loop(&mut ours, ROUND / 3).await?));
    }
    let [plain, ours] = p50s.map(|p50s| median(&p50s));
    table.times(
        "Refresh, 1 client, p50",
        ours,
        "one by one",
        plain,
        "<= 1.05x",
    );
    Ok(())
}

/// Fills the table with other sessions, since a small table would be faster.
pub async fn fill(database: &Database) -> Result<()> {
    let sql = format!(
        "INSERT INTO users SELECT gen_random_uuid(), i || '@example.org', 'x', 1, now(), now()
         FROM generate_series(1, {OTHER_SESSIONS}) AS i;
         INSERT INTO sessions SELECT gen_random_uuid(), id, sha256(email::bytea), sha256('x'), NULL,
         NULL, 1, NULL, now(), now(), now() + interval '1 day', now() + interval '30 days', NULL, NULL
         FROM users;
         VACUUM ANALYZE users; VACUUM ANALYZE sessions;"
    );
    let client = database.client().await?;
    for statement in sql.split_inclusive(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// A client that refreshes its session again and again.
pub struct Refresher {
    client: AuthServiceClient<Channel>,
    token: String,
}

impl Refresher {
    pub fn new(client: AuthServiceClient<Channel>, token: &RefreshToken) -> Self {
        Self {
            client,
            token: token.expose().expose_secret().to_owned(),
        }
    }
}

impl Client for Refresher {
    async fn call(&mut self) -> Result<()> {
        let refresh_token = std::mem::take(&mut self.token);
        let request = proto::RefreshRequest { refresh_token };
        let reply = self.client.refresh(request).await?.into_inner();
        self.token = reply.tokens.ok_or("tokens")?.refresh_token;
        Ok(())
    }
}

/// New clients, 16 on each connection.
pub async fn clients(service: &Service, db: &Db, count: usize) -> Result<Vec<Refresher>> {
    let mut clients = Vec::new();
    for tokens in sessions(db, count).await?.chunks(16) {
        let client = AuthServiceClient::new(service.connect().await?);
        clients.extend((tokens.iter()).map(|token| Refresher::new(client.clone(), token)));
    }
    Ok(clients)
}

/// New users with one session each.
pub async fn sessions(db: &Db, count: usize) -> Result<Vec<RefreshToken>> {
    stream::iter(0..count)
        .map(|_| session(db))
        .buffer_unordered(8)
        .try_collect()
        .await
}

async fn session(db: &Db) -> Result<RefreshToken> {
    let now = SystemClock.now();
    let user_id = UserId::new(now);
    let token = RefreshToken::generate(Form::Keyed(data_keys().current()))?;
    let session = NewSession {
        id: SessionId::new(now),
        user_id,
        handle_hash: token.handle_hash(),
        token_hash: token.secret_hash(),
        device_name: None,
        created_at: now,
        expires_at: now + Duration::from_hours(1),
        ends_at: now + Duration::from_hours(1),
        access_tokens_expire_at: now + Duration::from_hours(1),
        event: None,
    };
    new_user(db, &format!("{user_id}@example.com"), "x", Some(&session)).await?;
    Ok(token)
}

/// The baseline: only the one-row UPDATE of a refresh, on a pooled connection.
struct Bare {
    pool: Arc<Pool>,
    handle_hash: [u8; 32],
    token_hash: [u8; 32],
}

struct Pool {
    idle: Mutex<tokio::sync::mpsc::UnboundedReceiver<Connection>>,
    give_back: tokio::sync::mpsc::UnboundedSender<Connection>,
}

type Connection = (tokio_postgres::Client, Statement);

pub const UPDATE: &str = "UPDATE sessions SET previous_token_hash = token_hash, token_hash = $3,
    sealed_successor = $3, generation = generation + 1, rotated_at = now(),
    expires_at = now() + interval '1 day' WHERE handle_hash = $1 AND token_hash = $2
    AND revoked_at IS NULL AND expires_at > now() AND ends_at > now() RETURNING id, user_id";

impl Client for Bare {
    async fn call(&mut self) -> Result<()> {
        let mut next = [0; 32];
        getrandom::fill(&mut next)?;
        let idle = self.pool.idle.lock().await.recv().await;
        let (client, statement) = idle.ok_or("a pool")?;
        let (handle, old, new) = (&self.handle_hash[..], &self.token_hash[..], &next[..]);
        client.query_one(&statement, &[&handle, &old, &new]).await?;
        self.pool.give_back.send((client, statement))?;
        self.token_hash = next;
        Ok(())
    }
}

async fn bare_clients(database: &Database, db: &Db, count: usize) -> Result<Vec<Bare>> {
    let (give_back, idle) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..CONNECTIONS {
        let client = database.client().await?;
        let statement = client.prepare(UPDATE).await?;
        give_back.send((client, statement))?;
    }
    let pool = Arc::new(Pool {
        idle: Mutex::new(idle),
        give_back,
    });
    let bare = |token: RefreshToken| Bare {
        pool: Arc::clone(&pool),
        handle_hash: token.handle_hash(),
        token_hash: token.secret_hash(),
    };
    Ok(sessions(db, count).await?.into_iter().map(bare).collect())
}
