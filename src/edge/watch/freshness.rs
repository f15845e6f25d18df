//! What happens as time passes: keys are dropped, expired revocations are forgotten, and the log
//! says when the knowledge becomes stale.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    edge::{Knowledge, State},
    model::Clock,
};

const INTERVAL: Duration = Duration::from_millis(200);
/// Forgetting looks at every revocation, so it is rare.
const FORGET_INTERVAL: Duration = Duration::from_secs(30);

pub async fn run(knowledge: Arc<Knowledge>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut state = State::Starting;
    let (start, started) = (clock.now(), Instant::now());
    let mut forgotten_at = started;
    while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
        let now = Instant::now();
        knowledge.drop_old_keys(now);
        let before = std::mem::replace(&mut state, knowledge.state(now));
        if state != before {
            report(before, state, knowledge.answers(now));
        }
        if now.duration_since(forgotten_at) >= FORGET_INTERVAL {
            // A wall clock that is ahead for a moment must not make it forget.
            let steady = start + now.duration_since(started);
            knowledge.forget_expired(steady.min(clock.now()));
            forgotten_at = now;
        }
    }
}

fn report(before: State, state: State, answers: bool) {
    match state {
        State::Fresh if before == State::Starting => info!("ready: all revocations are known"),
        State::Fresh => info!("all revocations are known again"),
        State::Stale if answers => {
            warn!("STALE: new revocations are unknown, and their tokens are accepted");
        }
        State::Stale => error!("STALE: new revocations are unknown, so every request is refused"),
        State::KeysTooOld => error!("THE KEYS ARE TOO OLD, so every request is refused"),
        State::Starting => {}
    }
}
