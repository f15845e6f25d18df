//! Logins of known devices during a flood of invented ones, with and without device tokens.
//! Without them all logins are served first come, first served.

use std::{ops::Range, time::Instant};

use auth_service::proto::{LoginRequest, auth_service_client::AuthServiceClient};
use tokio::time::sleep;
use tonic::{Code, transport::Channel};

use super::{Answer, Flood, OVERLOAD, ROUNDS, WARM_UP, WINDOW, request};
use crate::{
    Result,
    stats::{median, percentile, rate},
    table::{self, Table},
    world::Service,
};

/// Logins of known devices per second: far below the capacity.
const KNOWN_RATE: f64 = 4.0;
const INVENTED: usize = 10_000;

/// The answers to the logins with device tokens, or to those without.
#[derive(Default)]
struct Outcome {
    known: Vec<Answer>,
    /// The answers to known and invented logins per second that took a hash.
    goodputs: Vec<f64>,
}

/// `capacity` is in logins per second.
pub async fn measure(
    table: &mut Table,
    service: &Service,
    emails: &[String],
    capacity: f64,
) -> Result<()> {
    let channel = service.connect().await?;
    let flood = Flood {
        channel: service.connect().await?,
        requests: (0..INVENTED).map(invented).collect(),
        rate: OVERLOAD * capacity,
    };
    let without: Vec<_> = emails.iter().map(|email| request(email)).collect();
    let known = [with_tokens(&channel, &without).await?, without];
    let known = known.map(|requests| Flood {
        channel: channel.clone(),
        requests,
        rate: KNOWN_RATE,
    });
    let mut outcomes = [Outcome::default(), Outcome::default()];
    for _ in 0..ROUNDS {
        for (known, outcome) in known.iter().zip(&mut outcomes) {
            one_round(&flood, known, outcome).await?;
        }
    }
    report(table, &outcomes);
    Ok(())
}

fn invented(n: usize) -> LoginRequest {
    request(&format!("nobody-{n}@example.com"))
}

/// The same logins from devices on which the accounts have logged in before.
async fn with_tokens(channel: &Channel, requests: &[LoginRequest]) -> Result<Vec<LoginRequest>> {
    let mut client = AuthServiceClient::new(channel.clone());
    let mut known = Vec::new();
    for request in requests {
        let first = client.login(request.clone()).await?.into_inner();
        known.push(LoginRequest {
            device_token: first.device_token,
            ..request.clone()
        });
    }
    Ok(known)
}

async fn one_round(flood: &Flood, known: &Flood, outcome: &mut Outcome) -> Result<()> {
    let from = Instant::now() + WARM_UP;
    let (flood, known) = tokio::try_join!(flood.run(WARM_UP + WINDOW), async {
        sleep(WARM_UP).await;
        known.run(WINDOW).await
    })?;
    let window = from..from + WINDOW;
    let hashes = hashes(&flood, &window) + hashes(&known, &window);
    outcome.goodputs.push(rate(hashes, WINDOW));
    outcome.known.extend(known);
    Ok(())
}

fn hashes(answers: &[Answer], window: &Range<Instant>) -> usize {
    let hashed = |answer: &&Answer| matches!(answer.code, Code::Ok | Code::Unauthenticated);
    let hashed = answers.iter().filter(hashed);
    hashed.filter(|answer| window.contains(&answer.at)).count()
}

fn report(table: &mut Table, outcomes: &[Outcome; 2]) {
    let name = |what: &str| format!("invented logins at {OVERLOAD}x capacity: {what}");
    let baseline = |text: String| format!("{text} first come, first served");
    let [succeeded, before] = [0, 1].map(|n| share_that_succeeded(&outcomes[n].known));
    let what = name("known devices' logins that succeed");
    table.row(&what, &succeeded, &baseline(before), "", "100 %");
    let [p99, before] = [0, 1].map(|n| p99_of_successes(&outcomes[n].known));
    table.row(&name("their p99"), &p99, &baseline(before), "", "<= 1 s");
    let [goodput, before] = [0, 1].map(|n| median(&outcomes[n].goodputs));
    let what = "first come, first served";
    table.rates(&name("goodput"), goodput, what, before, ">= 0.95x");
}

fn share_that_succeeded(answers: &[Answer]) -> String {
    let succeeded = answers.iter().filter(|answer| answer.code == Code::Ok);
    format!("{} %", 100 * succeeded.count() / answers.len())
}

fn p99_of_successes(answers: &[Answer]) -> String {
    let succeeded = answers.iter().filter(|answer| answer.code == Code::Ok);
    let times: Vec<_> = succeeded.map(|answer| answer.took).collect();
    if times.is_empty() {
        return "none".to_owned();
    }
    table::time(percentile(&times, 0.99))
}
