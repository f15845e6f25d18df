//! Databases with many rows, as they are after a day of use.
//!
//! The rows are made on the server, with the indexes in place: an index that is built at the end
//! would have no free space on its pages, and the next inserts would split them. Refresh tokens are
//! known for some of the sessions, which are spread over the whole table.

use std::time::Instant;

use auth_service::{
    db::Db,
    model::{Form, RefreshToken, StoredHash, UserId},
};
use tokio_postgres::{Client, types::ToSql};

use super::server::Server;
use crate::{
    Result,
    world::{Database, data_keys},
};

pub const SESSIONS_OF_A_USER: i64 = 2;
/// More than the benches refresh: each call takes another session, and hardly any page twice.
const MOST_TOKENS: i64 = 400_000;
/// One of so many rows of each table is to be deleted by housekeeping.
pub const DELETABLE: i64 = 10;
const HASH: &str = "$2a$12$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
const CHUNK: usize = 500_000;

/// The milliseconds since 1970 in the id of row 0.
const EPOCH: i64 = 1_700_000_000_000;

type Parameter<'a> = &'a (dyn ToSql + Sync);

pub struct Tables {
    pub database: Database,
    pub db: Db,
    /// They have the addresses `1@example.org` and so on.
    pub users: i64,
    /// In an order that is random in the table and in its indexes.
    pub tokens: Vec<RefreshToken>,
}

impl Tables {
    pub async fn fill(server: &Server, users: i64) -> Result<Self> {
        let begun = Instant::now();
        let (database, db) = Database::migrated_on(server.url.clone()).await?;
        let client = database.client().await?;
        client.batch_execute(PREPARE).await?;
        let keys = data_keys();
        // No seal is of one of the users, but all have the right key. A replica looks no closer.
        let seal = StoredHash::new(
            HASH,
            UserId::from_bytes([0; 16]),
            Form::Keyed(keys.current()),
        )?;
        let seal = seal.as_str();
        insert(&client, USERS, users, &[&seal]).await?;
        let tables = Self {
            tokens: known(&client, users * SESSIONS_OF_A_USER).await?,
            database,
            db,
            users,
        };
        insert(&client, SESSIONS, tables.sessions(), &[&users]).await?;
        vacuum(&client, "users, sessions").await?;
        let bytes = "SELECT pg_database_size(current_database()) / 1000000";
        let megabytes: i64 = client.query_one(bytes, &[]).await?.get(0);
        let (sessions, seconds) = (tables.sessions(), begun.elapsed().as_secs());
        eprintln!("filled a database with {sessions} sessions: {megabytes} MB in {seconds} s");
        Ok(tables)
    }

    /// Guess counters, mail requests and revocations. Running replicas would delete some of them.
    pub async fn fill_others(&self) -> Result<()> {
        let client = self.database.client().await?;
        client.batch_execute(PREPARE).await?;
        insert(&client, COUNTERS, self.others(), &[]).await?;
        insert(&client, MAILS, self.others(), &[&self.users]).await?;
        insert(&client, REVOCATIONS, self.others(), &[]).await?;
        vacuum(&client, "login_throttle, mail_requests, revocations").await
    }

    pub const fn sessions(&self) -> i64 {
        self.users * SESSIONS_OF_A_USER
    }

    /// Rows of guess counters, of mail requests and of revocations.
    pub const fn others(&self) -> i64 {
        self.users / 2
    }

    /// Lies between the ids of two rows.
    pub fn id_before(row: i64) -> [u8; 16] {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&(EPOCH + row).to_be_bytes()[2..]);
        id
    }
}

/// Makes tokens for some of the sessions that housekeeping keeps.
async fn known(client: &Client, sessions: i64) -> Result<Vec<RefreshToken>> {
    let kept = (1..=sessions).filter(|row| row % DELETABLE != 0);
    let step = usize::try_from((sessions / MOST_TOKENS).max(1))?;
    let rows: Vec<i64> = kept.step_by(step).collect();
    let keys = data_keys();
    let mut tokens = Vec::with_capacity(rows.len());
    for rows in rows.chunks(50_000) {
        let made = rows
            .iter()
            .map(|_| RefreshToken::generate(Form::Keyed(keys.current())));
        let made = made.collect::<std::result::Result<Vec<_>, _>>()?;
        let handles: Vec<_> = made.iter().map(|it| it.handle_hash().to_vec()).collect();
        let secrets: Vec<_> = made.iter().map(|it| it.secret_hash().to_vec()).collect();
        let sql = "INSERT INTO known SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])";
        client.execute(sql, &[&rows, &handles, &secrets]).await?;
        tokens.extend(made);
    }
    client.batch_execute("ANALYZE known").await?;
    tokens.sort_by_cached_key(RefreshToken::secret_hash);
    Ok(tokens)
}

/// Inserts rows 1 to `count`: $1 and $2 of the statement are the first and the last one.
async fn insert(client: &Client, sql: &str, count: i64, more: &[Parameter<'_>]) -> Result<()> {
    let statement = client.prepare(sql).await?;
    for first in (1..=count).step_by(CHUNK) {
        let last = count.min(first + i64::try_from(CHUNK)? - 1);
        let given: [Parameter<'_>; 2] = [&first, &last];
        client
            .execute(&statement, &[&given[..], more].concat())
            .await?;
    }
    Ok(())
}

async fn vacuum(client: &Client, tables: &str) -> Result<()> {
    let vacuum = format!("VACUUM (ANALYZE) {tables}");
    client.batch_execute(&vacuum).await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// The rows fit together, so the foreign keys need no check. The ids are as those of the service:
/// version 7, in the order of the rows.
const PREPARE: &str = "
SET session_replication_role = replica;
SET synchronous_commit = off;
CREATE TEMPORARY TABLE known (n bigint PRIMARY KEY, handle_hash bytea, token_hash bytea);
CREATE FUNCTION pg_temp.id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008' || left(md5(n::text), 15))::uuid
$$;";

const USERS: &str = "
INSERT INTO users (id, email, password_hash, event_version, created_at, password_changed_at)
SELECT pg_temp.id(n), n || '@example.org', $3::text, 1, now(), now()
FROM generate_series($1::bigint, $2::bigint) AS n";

/// Each one was refreshed: a refresh does not make the row longer. Their users come in another
/// order. Some have ended, but replicas keep them for a day.
const SESSIONS: &str = "
INSERT INTO sessions (id, user_id, handle_hash, token_hash, previous_token_hash, sealed_successor,
    generation, created_at, rotated_at, expires_at, ends_at, access_tokens_expire_at)
SELECT pg_temp.id(n), pg_temp.id(1 + n * 7919 % $3::bigint),
    COALESCE(known.handle_hash, sha256(('handle ' || n)::bytea)),
    COALESCE(known.token_hash, sha256(('token ' || n)::bytea)),
    sha256(('previous ' || n)::bytea), sha256(('sealed ' || n)::bytea), 3,
    now() - interval '1 day', now() - interval '1 day',
    now() + CASE n % 10 WHEN 0 THEN interval '-12 hours' ELSE interval '1 day' END,
    now() + interval '30 days', now() + interval '1 hour'
FROM generate_series($1::bigint, $2::bigint) AS n LEFT JOIN known USING (n)";

const COUNTERS: &str = "
INSERT INTO login_throttle (key_hash, free_from, blocked_until, day_failures, day_ends_at,
    known_until, revision, failed_at)
SELECT sha256(('counter ' || n)::bytea), live * 1000000 * (extract(epoch FROM now())::bigint + 86400),
    0, live, live * 1000000 * (extract(epoch FROM now())::bigint + 86400), 0, 1,
    live * 1000000 * extract(epoch FROM now())::bigint
FROM generate_series($1::bigint, $2::bigint) AS n, LATERAL (SELECT (n % 10 <> 0)::int::bigint AS live)";

const MAILS: &str = "
INSERT INTO mail_requests (id, user_id, purpose, email, requested_at, claim_until, claims, expires_at)
SELECT pg_temp.id(n), pg_temp.id(1 + n * 7919 % $3::bigint), 'reset_password',
    1 + n * 7919 % $3::bigint || '@example.org', now(), now(), 1,
    now() + CASE n % 10 WHEN 0 THEN interval '-1 hour' ELSE interval '1 day' END
FROM generate_series($1::bigint, $2::bigint) AS n";

/// Half of them have expired. They are of the hour before the last minute, so they are no news.
const REVOCATIONS: &str = "
INSERT INTO revocations (id, session_id, until, recorded_at)
SELECT pg_temp.id(n), pg_temp.id(n), now() + (n % 2 - 0.5) * interval '1 hour',
    now() - interval '1 minute' - random() * interval '1 hour'
FROM generate_series($1::bigint, $2::bigint) AS n";
