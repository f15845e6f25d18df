//! How many bytes of the write-ahead log a login costs, and a wrong password.

use auth_service::proto::{LoginRequest, auth_service_client::AuthServiceClient};
use tonic::{Code, transport::Channel};

use super::{ROUNDS, request};
use crate::{
    Result,
    postgres::Postgres,
    stats::{median, per_call},
    table::Table,
    world::Service,
};

/// Accounts of a round.
const ACCOUNTS: usize = 50;

/// Sessions stand in random order in an index. After many logins each would copy another page of
/// it into the log, once after each checkpoint.
pub async fn measure(
    table: &mut Table,
    postgres: &Postgres,
    service: &Service,
    emails: &[String],
) -> Result<()> {
    let client = AuthServiceClient::new(service.connect().await?);
    let right: Vec<_> = emails
        .iter()
        .take(ACCOUNTS)
        .map(|email| request(email))
        .collect();
    let wrong = right.iter().map(|right| LoginRequest {
        password: "wrong".to_owned(),
        ..right.clone()
    });
    let wrong: Vec<_> = wrong.collect();
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
            let before = postgres.wal().await?;
            for request in requests {
                expect(&client, request, code).await?;
            }
            bytes.push(per_call(postgres.wal().await? - before, ACCOUNTS));
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
