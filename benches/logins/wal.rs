//! How many bytes of the write-ahead log a login costs, and a wrong password.

use auth_service::proto::{LoginRequest, auth_service_client::AuthServiceClient};
use tonic::{Code, transport::Channel};

use super::{ROUNDS, request};
use crate::{
    Result,
    stats::median,
    table::Table,
    world::{Database, Service},
};

/// Accounts of a round.
const ACCOUNTS: u8 = 50;

/// The accounts have logged in before.
pub async fn measure(
    table: &mut Table,
    database: &Database,
    service: &Service,
    emails: &[String],
) -> Result<()> {
    let client = AuthServiceClient::new(service.connect().await?);
    let right: Vec<_> = emails
        .iter()
        .take(ACCOUNTS.into())
        .map(|email| request(email))
        .collect();
    let wrong = right.iter().map(|right| LoginRequest {
        password: "wrong".to_owned(),
        ..right.clone()
    });
    let wrong: Vec<_> = wrong.collect();
    let postgres = database.client().await?;
    let written = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
    for (name, requests, code, goal) in [
        ("WAL of a login", &right, Code::Ok, "<= 1,250 B"),
        (
            "WAL of a wrong password",
            &wrong,
            Code::Unauthenticated,
            "<= 330 B",
        ),
    ] {
        let mut bytes = Vec::new();
        // The first round copies whole pages into the log.
        for _ in 0..=ROUNDS {
            let before: f64 = postgres.query_one(written, &[]).await?.get(0);
            for request in requests {
                expect(&client, request, code).await?;
            }
            let after: f64 = postgres.query_one(written, &[]).await?.get(0);
            bytes.push((after - before) / f64::from(ACCOUNTS));
        }
        table.row(name, &format!("{:.0} B", median(&bytes[1..])), "", "", goal);
    }
    Ok(())
}

async fn expect(
    client: &AuthServiceClient<Channel>,
    request: &LoginRequest,
    code: Code,
) -> Result<()> {
    let answer = client.clone().login(request.clone()).await;
    match answer.map_or_else(|status| status.code(), |_| Code::Ok) {
        got if got == code => Ok(()),
        other => Err(format!("a login was answered with {other:?}").into()),
    }
}
