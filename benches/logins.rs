//! Logins through gRPC, compared with the password engine alone, and under overload.

mod known;
pub mod statements;
mod wal;

use std::time::{Duration, Instant};

use auth_service::{
    db::Db,
    proto::{self, auth_service_client::AuthServiceClient},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::{Code, Request, transport::Channel};

use crate::{
    Result, footprint,
    load::{Client, steady_rate},
    passwords::{CALLERS, Engine, PASSWORD},
    postgres::{LESS, Postgres},
    refresh::{self, Refresher},
    stats::{median, percentile, rate},
    table::{self, Table},
    world::{Database, Service, new_user},
};

const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(6);
/// Callers that are cancelled at the same time.
const CANCELLED: usize = 200;
/// The offered load, as a multiple of the capacity.
const OVERLOAD: f64 = 4.0;

pub async fn measure(table: &mut Table) -> Result<()> {
    let (database, db) = Database::migrated().await?;
    let engine = Engine::start()?;
    let emails = accounts(&db, &engine.hash).await?;
    // 200 callers wait long, above all on a slow machine.
    let long_waits = [("PASSWORD_MAX_WAIT", "59s"), ("REQUEST_TIMEOUT", "60s")];
    let service = Service::start(&database.url, &long_waits).await?;
    // Before the others, so that few pages hold the sessions.
    let postgres = Postgres::of(&database).await?;
    wal::measure(table, &postgres, &service, &emails).await?;
    let closed = closed_loop(table, &service, &engine, &emails).await?;
    let after = cancelled(service.connect().await?, &emails).await?;
    drop((service, engine));
    let service = Service::start(&database.url, &[]).await?;
    let flood = Flood {
        channel: service.connect().await?,
        requests: emails.iter().map(|email| request(email)).collect(),
        rate: OVERLOAD * closed,
    };
    open_loop(table, &flood, closed).await?;
    known::measure(table, &service, &emails, closed).await?;
    let mut clients = refresh::clients(&service, &db, 4).await?;
    refresh_beside(table, "", &flood, &mut clients).await?;
    match postgres.limit() {
        Ok(_limited) => refresh_beside(table, LESS, &flood, &mut clients).await?,
        Err(error) => table.not_measured(LESS.trim_start_matches(", "), &*error),
    }
    let name = format!("a login after {CANCELLED} cancelled ones");
    table.times(&name, after.1, "idle", after.0, "<= 1.5x");
    let loaded = footprint::megabytes(service.resident()?);
    table.row("resident memory after that flood", &loaded, "", "", "");
    drop(service);
    statements::measure(table, &postgres, &database, &db).await?;
    database.drop().await
}

/// Accounts with the same password: the cost of a login does not depend on the password.
async fn accounts(db: &Db, hash: &str) -> Result<Vec<String>> {
    let mut emails = Vec::new();
    for n in 0..CALLERS {
        let email = format!("user-{n}@example.com");
        new_user(db, &email, hash, None).await?;
        emails.push(email);
    }
    Ok(emails)
}

struct Login {
    client: AuthServiceClient<Channel>,
    email: String,
}

impl Client for Login {
    async fn call(&mut self) -> Result<()> {
        self.client.login(request(&self.email)).await?;
        Ok(())
    }
}

fn request(email: &str) -> proto::LoginRequest {
    proto::LoginRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    }
}

async fn closed_loop(
    table: &mut Table,
    service: &Service,
    engine: &Engine,
    emails: &[String],
) -> Result<f64> {
    let client = AuthServiceClient::new(service.connect().await?);
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let logins = emails.iter().map(|email| Login {
            client: client.clone(),
            email: email.clone(),
        });
        rates[0].push(steady_rate(logins.collect(), WARM_UP, WINDOW).await?);
        // The last calls of the clients were cancelled. Wait until their hashes have ended.
        sleep(Duration::from_secs(1)).await;
        rates[1].push(engine.rate().await?);
    }
    let [logins, hashes] = rates.map(|rates| median(&rates));
    let name = format!("logins/s through gRPC on Postgres, {CALLERS} clients");
    table.rates(&name, logins, "engine alone", hashes, ">= 0.95x");
    Ok(logins)
}

/// Logins at a fixed rate, which does not depend on the answers.
struct Flood {
    channel: Channel,
    requests: Vec<proto::LoginRequest>,
    rate: f64,
}

struct Answer {
    at: Instant,
    took: Duration,
    code: Code,
}

impl Flood {
    async fn run(&self, time: Duration) -> Result<Vec<Answer>> {
        let mut calls = JoinSet::new();
        let mut pace = interval(Duration::from_secs_f64(1.0 / self.rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let begun = Instant::now();
        for request in self.requests.iter().cycle() {
            let due = pace.tick().await.into_std();
            if begun.elapsed() > time {
                break;
            }
            let mut client = AuthServiceClient::new(self.channel.clone());
            let mut request = Request::new(request.clone());
            request.set_timeout(Duration::from_secs(5));
            calls.spawn(async move {
                let answer = client.login(request).await;
                let at = Instant::now();
                Answer {
                    at,
                    took: at - due,
                    code: answer.map_or_else(|status| status.code(), |_| Code::Ok),
                }
            });
        }
        Ok(calls.join_all().await)
    }
}

async fn open_loop(table: &mut Table, flood: &Flood, closed: f64) -> Result<()> {
    let begun = Instant::now();
    let time = WARM_UP + 2 * WINDOW;
    let answers = flood.run(time).await?;
    let times = |code: Code| {
        let those = answers.iter().filter(|answer| answer.code == code);
        those.map(|answer| answer.took).collect::<Vec<_>>()
    };
    let (accepted, refused) = (times(Code::Ok), times(Code::ResourceExhausted));
    let neither = answers.len() - accepted.len() - refused.len();
    let p99 = |times: &[Duration]| match times {
        [] => "none".to_owned(),
        times => table::time(percentile(times, 0.99)),
    };
    let name = |what: &str| format!("open loop at {OVERLOAD}x capacity, 5 s deadlines: {what}");
    let counts = |count: usize| format!("{count} of {} calls", answers.len());
    table.row(
        &name("accepted p99"),
        &p99(&accepted),
        &counts(accepted.len()),
        "",
        "<= 2.5 s",
    );
    table.row(
        &name("refused p99"),
        &p99(&refused),
        &counts(refused.len()),
        "",
        "<= 50 ms",
    );
    if neither > 0 {
        table.row(&name("neither"), &counts(neither), "", "", "0");
    }
    let counted = begun + WARM_UP..begun + time;
    let good = answers.iter().filter(|answer| answer.code == Code::Ok);
    let good = good.filter(|answer| counted.contains(&answer.at)).count();
    let good = rate(good, 2 * WINDOW);
    table.rates(&name("goodput"), good, "closed loop", closed, ">= 0.95x");
    Ok(())
}

/// 200 refreshes per second, with and without a flood of logins.
async fn refresh_beside(
    table: &mut Table,
    server: &str,
    flood: &Flood,
    clients: &mut Vec<Refresher>,
) -> Result<()> {
    let mut p99s = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        p99s[0].push(paced(clients, WINDOW).await?);
        let (_, beside) = tokio::try_join!(flood.run(WINDOW + WARM_UP), async {
            sleep(WARM_UP).await;
            paced(clients, WINDOW).await
        })?;
        p99s[1].push(beside);
        sleep(WARM_UP).await;
    }
    let [idle, beside] = p99s.map(|p99s| median(&p99s));
    table.times(
        &format!("Refresh p99 beside a flood of logins{server}"),
        beside,
        "idle",
        idle,
        "<= 2x",
    );
    Ok(())
}

/// The p99 of refreshes. Each client sends one every 20 ms.
async fn paced(clients: &mut Vec<Refresher>, time: Duration) -> Result<Duration> {
    let mut tasks = JoinSet::new();
    for mut client in clients.drain(..) {
        tasks.spawn(async move {
            let mut pace = interval(Duration::from_millis(20));
            let (begun, mut times) = (Instant::now(), Vec::new());
            while begun.elapsed() < time {
                let due = pace.tick().await;
                client.call().await?;
                times.push(due.elapsed());
            }
            Ok::<_, crate::Failure>((client, times))
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (client, times) = ended??;
        clients.push(client);
        all.extend(times);
    }
    Ok(percentile(&all, 0.99))
}

/// The time of a login on an idle service, and right after many waiting callers were cancelled,
/// as when a gateway restarts.
async fn cancelled(channel: Channel, emails: &[String]) -> Result<(Duration, Duration)> {
    let client = AuthServiceClient::new(channel);
    let mut login = Login {
        client: client.clone(),
        email: emails[0].clone(),
    };
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        login.call().await?;
        times[0].push(begun.elapsed());

        let mut waiting = JoinSet::new();
        for email in emails[1..].iter().cycle().take(CANCELLED) {
            let (mut client, request) = (client.clone(), request(email));
            waiting.spawn(async move { client.login(request).await.map(|_| ()) });
        }
        sleep(Duration::from_millis(100)).await;
        if let Some(answer) = waiting.try_join_next() {
            return Err(format!("answered before it could be cancelled: {answer:?}").into());
        }
        waiting.shutdown().await;
        let begun = Instant::now();
        login.call().await?;
        times[1].push(begun.elapsed());
    }
    let [idle, after] = times.map(|times| median(&times));
    Ok((idle, after))
}
