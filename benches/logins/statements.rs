//! What the statements of a login cost the server, without the hash, compared with its INSERT
//! alone.

use std::{sync::Arc, time::Duration};

use auth_service::{
    app::SystemClock,
    db::{Admission, Count, Db, NewSession},
    model::{Act, Clock as _, CounterLimits, SessionEnd, SessionEndReason, SessionId, UserId},
};
use tokio_postgres::{Statement, types::ToSql};

use super::ROUNDS;
use crate::{
    Result,
    load::Client,
    postgres::{Postgres, medians},
    refresh::{OTHER_SESSIONS, fill},
    table::Table,
    world::Database,
};

/// As many as the service has connections.
pub const CLIENTS: usize = 16;
const ROUND: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_hours(1);

pub async fn measure(
    table: &mut Table,
    postgres: &Postgres,
    database: &Database,
    db: &Db,
) -> Result<()> {
    fill(database).await?;
    let login = Login {
        db: db.clone(),
        users: OTHER_SESSIONS,
    };
    let mut ours = vec![login; CLIENTS];
    let users = database.client().await?;
    let users = users.query("SELECT id::text FROM users", &[]).await?;
    let users: Arc<[String]> = users.iter().map(|row| row.get(0)).collect();
    let mut bare = Vec::new();
    for _ in 0..CLIENTS {
        let client = database.client().await?;
        bare.push(Bare {
            statement: client.prepare(INSERT).await?,
            client,
            users: Arc::clone(&users),
        });
    }
    let mut rounds = [const { Vec::new() }; 2];
    for round in 0..=ROUNDS {
        let measured = [
            postgres.measure(&mut ours, ROUND).await?,
            postgres.measure(&mut bare, ROUND).await?,
        ];
        // The first round prepares the statements.
        if round > 0 {
            (rounds.iter_mut().zip(measured)).for_each(|(all, one)| all.push(one));
        }
    }
    let [ours, bare] = rounds.map(|rounds| medians(&rounds));
    let what = "bare INSERT of the session";
    let name = |what: &str| format!("Postgres, {what} of a login, {CLIENTS} clients");
    table.costs(&name("CPU"), ours.cpu, "us", what, bare.cpu, "<= 2.5x");
    table.costs(&name("WAL"), ours.wal, "B", what, bare.wal, "");
    Ok(())
}

/// All statements of a login from a known device, in the order of `auth::login`.
#[derive(Clone)]
pub struct Login {
    pub db: Db,
    /// The users have the addresses `1@example.org` and so on.
    pub users: i64,
}

impl Client for Login {
    async fn call(&mut self) -> Result<()> {
        let db = &self.db;
        // Each of them has only a few sessions.
        let number = 1 + i64::from(getrandom::u32()?) % self.users;
        let email = format!("{number}@example.org");
        let found = db.find_credentials(&email).await?.ok_or("the account")?;
        let now = SystemClock.now();
        let count = Count {
            key: random()?,
            limits: CounterLimits {
                free: 10,
                window: None,
                first_wait: Duration::from_secs(1),
                longest_wait: HOUR,
                fade: HOUR,
            },
        };
        let Admission::Counted(counted) = db.count(&[count], now).await? else {
            return Err("a new device is held back".into());
        };
        db.take_back(counted, now).await?;
        let session = new_session(found.user_id)?;
        let end = SessionEnd {
            reason: SessionEndReason::TooMany,
            access_token_ttl: HOUR,
        };
        let act = Act {
            now,
            traceparent: None,
            administrator: None,
        };
        let started = db.start_session(&session, found.password_changed_at, end, &act);
        started.await?.ok_or("the password is the same")?;
        Ok(())
    }
}

fn new_session(user_id: UserId) -> Result<NewSession> {
    let now = SystemClock.now();
    Ok(NewSession {
        id: SessionId::new(now),
        user_id,
        handle_hash: random()?,
        token_hash: random()?,
        device_name: None,
        created_at: now,
        expires_at: now + HOUR,
        ends_at: now + HOUR,
        access_tokens_expire_at: now + HOUR,
        event: None,
    })
}

fn random() -> Result<[u8; 32]> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(random)
}

struct Bare {
    client: tokio_postgres::Client,
    statement: Statement,
    users: Arc<[String]>,
}

const INSERT: &str = "INSERT INTO sessions (id, user_id, handle_hash, token_hash, generation,
    created_at, rotated_at, expires_at, ends_at, access_tokens_expire_at)
    VALUES ($1::text::uuid, $2::text::uuid, $3, $4, 1, now(), now(), now() + interval '1 day',
    now() + interval '30 days', now() + interval '1 hour')";

impl Client for Bare {
    async fn call(&mut self) -> Result<()> {
        let id = uuid::Uuid::now_v7().to_string();
        let user = usize::try_from(getrandom::u32()?)? % self.users.len();
        let (handle, token) = (random()?, random()?);
        let (user, handle, token) = (&self.users[user], &handle[..], &token[..]);
        let values: [&(dyn ToSql + Sync); 4] = [&id, user, &handle, &token];
        self.client.execute(&self.statement, &values).await?;
        Ok(())
    }
}
