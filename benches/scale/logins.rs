//! The statements of a login, without its hash: random users log in.

use std::time::Duration;

use super::{CHECKPOINTS, Server, Tables, name};
use crate::{
    Result,
    logins::statements::{CLIENTS, Login},
    postgres::{Measured, Postgres, medians},
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
        report(table, when, &rounds.map(|rounds| medians(&rounds)));
    }
    Ok(())
}

fn report(table: &mut Table, when: &str, [many, few]: &[Measured; 2]) {
    let name = |figure: &str| name(&format!("{figure} {when}, {CLIENTS} clients"));
    let (figure, what) = name("a login's statements");
    table.rates(&figure, many.rate, what, few.rate, ">= 0.8x");
    let (figure, what) = name("a login's statements, p99");
    table.times(&figure, many.p99, what, few.p99, "<= 1.5x");
    let (figure, what) = name("Postgres, CPU of a login");
    table.costs(&figure, many.cpu, "us", what, few.cpu, "");
    let (figure, what) = name("Postgres, WAL of a login");
    table.costs(&figure, many.wal, "B", what, few.wal, "");
}
