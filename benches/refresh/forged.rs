//! Refreshes with well-formed tokens of another key, tokens of no mail, and what they cost.

use std::time::Duration;

use auth_service::{
    model::{DataKey, DataKeys, DataSecrets, Form, MailToken, RefreshToken},
    proto::{
        self, auth_service_client::AuthServiceClient,
        recovery_service_client::RecoveryServiceClient,
    },
};
use secrecy::ExposeSecret as _;
use tokio::time::sleep;
use tonic::{Code, transport::Channel};

use super::ROUNDS;
use crate::{
    Result,
    load::{Client, closed_loop},
    stats::{median, rate},
    table::Table,
    world::{Database, Service, data_keys},
};

const CLIENTS: usize = 64;
const ROUND: Duration = Duration::from_secs(2);
/// A backend of Postgres reports its transactions once a second at most.
const REPORTED: Duration = Duration::from_secs(2);

/// Compares forged tokens with unknown ones, which have a genuine tag but no session, as after a
/// restore of the database.
pub async fn measure(table: &mut Table, database: &Database, service: &Service) -> Result<()> {
    let other = DataSecrets {
        current: b"a-key-that-the-service-does-not-know".to_vec().into(),
        previous: Vec::new(),
    };
    let keys = [DataKeys::new(&other), data_keys()];
    let mut rates = [const { Vec::new() }; 2];
    let mut transactions = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (n, keys) in keys.iter().enumerate() {
            let mut clients = forgers(service.connect().await?, keys.current())?;
            let cost = refusals(database, service, &mut clients).await?;
            rates[n].push(cost.rate);
            transactions[n].push(cost.transactions);
        }
    }
    let [forged, unknown] = rates.map(|rates| median(&rates));
    let what = "unknown ones";
    let name = "forged refresh tokens refused/s on one core";
    table.rates(name, forged, what, unknown, ">= 20,000/s");
    let [forged, unknown] = transactions.map(|counts| format!("{:.2}", median(&counts)));
    let name = "database transactions for each of them";
    table.row(name, &forged, &format!("{unknown} {what}"), "", "0.00");
    mails(table, database, service).await
}

/// Compares texts that are no token of a mail with well-formed tokens that no mail has.
async fn mails(table: &mut Table, database: &Database, service: &Service) -> Result<()> {
    let mut rates = [const { Vec::new() }; 2];
    let mut transactions = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (n, is_whole) in [false, true].into_iter().enumerate() {
            let mut clients = guessers(service.connect().await?, is_whole)?;
            let cost = refusals(database, service, &mut clients).await?;
            rates[n].push(cost.rate);
            transactions[n].push(cost.transactions);
        }
    }
    let [junk, unknown] = rates.map(|rates| median(&rates));
    let what = "unknown ones";
    let name = "junk tokens of mails refused/s on one core";
    table.rates(name, junk, what, unknown, ">= 10,000/s");
    let [junk, unknown] = transactions.map(|counts| format!("{:.2}", median(&counts)));
    let name = "database transactions for each of them";
    table.row(name, &junk, &format!("{unknown} {what}"), "", "0.00");
    Ok(())
}

struct Cost {
    /// Calls for each second of the service's CPU.
    rate: f64,
    /// For each call. Those of health checks are among them: about one a second.
    transactions: f64,
}

async fn refusals(
    database: &Database,
    service: &Service,
    clients: &mut Vec<impl Client>,
) -> Result<Cost> {
    let transactions = database.transactions().await?;
    let cpu = service.cpu_time()?;
    let calls = closed_loop(clients, ROUND).await?.count();
    let cpu = service.cpu_time()?.saturating_sub(cpu);
    sleep(REPORTED).await;
    let transactions = database.transactions().await? - transactions;
    Ok(Cost {
        rate: rate(calls, cpu),
        transactions: transactions / rate(calls, Duration::from_secs(1)),
    })
}

struct Forger {
    client: AuthServiceClient<Channel>,
    token: String,
}

fn forgers(channel: Channel, key: &DataKey) -> Result<Vec<Forger>> {
    let client = AuthServiceClient::new(channel);
    let forger = |_| {
        let token = RefreshToken::generate(Form::Keyed(key))?;
        Ok(Forger {
            client: client.clone(),
            token: token.expose().expose_secret().to_owned(),
        })
    };
    (0..CLIENTS).map(forger).collect()
}

impl Client for Forger {
    async fn call(&mut self) -> Result<()> {
        let refresh_token = self.token.clone();
        let answer = self.client.refresh(proto::RefreshRequest { refresh_token });
        match answer.await {
            Err(status) if status.code() == Code::Unauthenticated => Ok(()),
            Err(status) => Err(status.into()),
            Ok(_) => Err("a session of a forged token".into()),
        }
    }
}

/// Tries to take an account by the token of a mail.
struct Guesser {
    client: RecoveryServiceClient<Channel>,
    token: String,
}

fn guessers(channel: Channel, is_whole: bool) -> Result<Vec<Guesser>> {
    let client = RecoveryServiceClient::new(channel);
    let guesser = |_| {
        let mut token = MailToken::generate()?.expose().expose_secret().to_owned();
        if !is_whole {
            token.pop();
        }
        Ok(Guesser {
            client: client.clone(),
            token,
        })
    };
    (0..CLIENTS).map(guesser).collect()
}

impl Client for Guesser {
    async fn call(&mut self) -> Result<()> {
        let request = proto::ResetPasswordRequest {
            reset_token: self.token.clone(),
            new_password: "violet anchor marble".to_owned(),
            ..Default::default()
        };
        match self.client.reset_password(request).await {
            Err(status) if status.code() == Code::Unauthenticated => Ok(()),
            Err(status) => Err(status.into()),
            Ok(_) => Err("a reset by no mail".into()),
        }
    }
}
