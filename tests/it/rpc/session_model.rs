//! A session's whole life against a small model.
//!
//! The model knows the tokens in the order in which they were issued, and four times. Clients
//! call in any order at any time, and the clock also steps back. In all cases a session has one
//! live successor, it never forks, it ends once, and it stays ended.

mod model;
mod play;

use std::time::Duration;

use auth_service::proto::auth_service_client::AuthServiceClient;
use proptest::prelude::*;

use self::play::Play;
use crate::harness::{Backend, START, Service, TestDatabase, both, check_cases, connect, soak};

const IDLE: Duration = Duration::from_hours(24);
const MAX: Duration = Duration::from_hours(72);
const RETRY_WINDOW: Duration = Duration::from_secs(30);
/// How far behind a rotation a clock may be for a retry.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// The actions of clients and the clock. Age 0 is the current token, 1 the one before it.
#[derive(Clone, Debug)]
enum Step {
    Refresh {
        age: usize,
    },
    /// Refreshes at once, on several connections.
    Race {
        age: usize,
        calls: usize,
    },
    /// Refreshes and a logout at once.
    RaceLogout {
        age: usize,
        calls: usize,
    },
    /// A token with the right handle and a wrong secret.
    Forge,
    Logout {
        age: usize,
    },
    /// `EndSession` from another session of the user.
    EndByUser,
    Advance(Duration),
    TurnBack(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let age = || prop_oneof![6 => Just(0_usize), 3 => Just(1), 1 => 2..5_usize];
    let time = || {
        prop_oneof![
            4 => (0..40_u64).prop_map(Duration::from_secs),
            1 => Just(RETRY_WINDOW),
            1 => Just(RETRY_WINDOW + Duration::from_micros(1)),
            1 => Just(CLOCK_SKEW),
            1 => Just(CLOCK_SKEW + Duration::from_micros(1)),
            2 => (1..26_u64).prop_map(Duration::from_hours),
            1 => Just(IDLE),
        ]
    };
    prop_oneof![
        10 => age().prop_map(|age| Step::Refresh { age }),
        3 => (age(), 2..6_usize).prop_map(|(age, calls)| Step::Race { age, calls }),
        1 => (age(), 1..4_usize).prop_map(|(age, calls)| Step::RaceLogout { age, calls }),
        1 => Just(Step::Forge),
        1 => age().prop_map(|age| Step::Logout { age }),
        1 => Just(Step::EndByUser),
        6 => time().prop_map(Step::Advance),
        3 => time().prop_map(Step::TurnBack),
    ]
}

both! {
    async fn a_session_lives_as_the_model_says(database: TestDatabase) {
        let options = ["--refresh-token-ttl", "24h", "--session-max-age", "72h"];
        let service = Service::start(database, &options).await;
        let keeper = service.sign_up("ana@example.com").await;
        let end = service.database.time(START + 100 * IDLE);
        let for_ever = format!("UPDATE sessions SET expires_at = {end}, ends_at = {end}");
        service.database.execute(&for_ever).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(AuthServiceClient::new(connect(service.addr).await));
        }
        let cases = match service.database.backend() {
            Backend::Sqlite => soak(150, 5000),
            Backend::Postgres => soak(60, 2000),
        };
        let lives = prop::collection::vec(step(), 1..25);
        check_cases(cases, &lives, async |steps| {
            let events = "SELECT count(*) FROM outbox_events WHERE event_type = 'SESSION_ENDED'";
            let before = service.database.count(events).await;
            let mut play = Play::new(&service, &clients, &keeper).await;
            for step in steps {
                play.take(step).await?;
            }
            let written = service.database.count(events).await - before;
            prop_assert_eq!(written, i64::from(play.model.ended.is_some()));
            Ok(())
        });
    }
}
