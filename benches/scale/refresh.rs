//! Refreshes of random sessions: each call takes another one.

use std::{collections::VecDeque, time::Duration};

use auth_service::proto::auth_service_client::AuthServiceClient;
use tokio::time::sleep;

use super::{CHECKPOINTS, Server, Tables, name, report};
use crate::{
    Result, load::Client, postgres::Postgres, refresh::Refresher, table::Table, world::Service,
};

const CLIENTS: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// A backend of Postgres reports its updates once a second at most.
const REPORTED: Duration = Duration::from_secs(2);

/// Refreshes one session after the other.
struct Walker(VecDeque<Refresher>);

impl Client for Walker {
    async fn call(&mut self) -> Result<()> {
        let mut next = self.0.pop_front().ok_or("a session")?;
        next.call().await?;
        self.0.push_back(next);
        Ok(())
    }
}

pub async fn measure(
    table: &mut Table,
    server: &Server,
    postgres: &Postgres,
    both: &[Tables; 2],
) -> Result<()> {
    let mut services = Vec::new();
    let mut walkers = Vec::new();
    for tables in both {
        let service = Service::start(&tables.database.url, &[]).await?;
        walkers.push(walk(&service, tables).await?);
        services.push(service);
    }
    for (when, full_page_writes) in CHECKPOINTS {
        server.set("full_page_writes", full_page_writes).await?;
        let mut rounds = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            for (walkers, rounds) in walkers.iter_mut().zip(&mut rounds) {
                server.checkpoint().await?;
                rounds.push(postgres.measure(walkers, ROUND).await?);
            }
        }
        let when = format!("{when}, {CLIENTS} clients");
        report(table, ["Refresh", "a refresh"], &when, &rounds);
    }
    sleep(REPORTED).await;
    let mut shares = Vec::new();
    for tables in both {
        shares.push(hot_updates(tables).await?);
    }
    let (name, what) = name("refreshes that were HOT updates");
    table.row(&name, &shares[0], &format!("{} {what}", shares[1]), "", "");
    Ok(())
}

async fn walk(service: &Service, tables: &Tables) -> Result<Vec<Walker>> {
    let mut walkers = Vec::new();
    for tokens in tables.tokens.chunks(tables.tokens.len().div_ceil(CLIENTS)) {
        let client = AuthServiceClient::new(service.connect().await?);
        let sessions = tokens.iter();
        let sessions = sessions.map(|token| Refresher::new(client.clone(), token));
        walkers.push(Walker(sessions.collect()));
    }
    Ok(walkers)
}

async fn hot_updates(tables: &Tables) -> Result<String> {
    let sql = "SELECT 100 * n_tup_hot_upd / GREATEST(n_tup_upd, 1) FROM pg_stat_user_tables
        WHERE relname = 'sessions'";
    let client = tables.database.client().await?;
    let share: i64 = client.query_one(sql, &[]).await?.get(0);
    Ok(format!("{share} %"))
}
