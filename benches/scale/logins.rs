//! The statements of a login, without its hash: random users log in.

use std::time::Duration;

use super::{CHECKPOINTS, Server, Tables, report};
use crate::{
    Result,
    logins::statements::{CLIENTS, Login},
    postgres::Postgres,
    table::Table,
};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

pub async fn measure(
    table: &mut Table,
    server: &Server,
    postgres: &Postgres,
    both: &[Tables; 2],
) -> Result<()> {
    let mut clients = both.each_ref().map(|tables| {
        let login = Login {
            db: tables.db.clone(),
            users: tables.users,
        };
        vec![login; CLIENTS]
    });
    for (when, full_page_writes) in CHECKPOINTS {
        server.set("full_page_writes", full_page_writes).await?;
        let mut rounds = [const { Vec::new() }; 2];
        for round in 0..=ROUNDS {
            for (clients, rounds) in clients.iter_mut().zip(&mut rounds) {
                server.checkpoint().await?;
                let measured = postgres.measure(clients, ROUND).await?;
                // The first round prepares the statements.
                if round > 0 {
                    rounds.push(measured);
                }
            }
        }
        let when = format!("{when}, {CLIENTS} clients");
        report(table, ["a login's statements", "a login"], &when, &rounds);
    }
    Ok(())
}
