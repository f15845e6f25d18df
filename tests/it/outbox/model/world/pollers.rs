//! Pollers that run at the same time, lose their lease and die.

use std::{pin::Pin, sync::Arc, task::Poll};

use auth_service::outbox::{Error, Outcome, Poller};
use tokio::sync::mpsc;

use super::{TIMEOUT, World};
use crate::{
    harness::{START, TestDatabase, db},
    outbox::{
        model::{
            POLLERS,
            broker::{Call, Line},
        },
        poller_at,
    },
};

type Tick = Pin<Box<dyn Future<Output = (Box<Poller>, Result<Outcome, Error>)> + Send>>;

/// A poller, and its calls to the broker.
pub struct Replica {
    calls: mpsc::UnboundedReceiver<Call>,
    pub state: State,
}

pub enum State {
    Idle(Box<Poller>),
    /// In a tick that waits for the broker.
    Calling(Tick, Box<Call>),
    /// Between the two others.
    Moving,
}

impl Replica {
    /// It has connections of its own, like a process.
    pub fn start(database: &TestDatabase) -> Self {
        let (line, calls) = Line::new();
        let poller = poller_at(db(database, TIMEOUT), Arc::new(line), START);
        Self {
            calls,
            state: State::Idle(Box::new(poller)),
        }
    }
}

impl World {
    pub(super) async fn tick(&mut self, poller: usize) {
        let Replica { calls, state } = &mut self.pollers[poller];
        *state = match std::mem::replace(state, State::Moving) {
            State::Idle(mut poller) => {
                let mut tick: Tick = Box::pin(async move {
                    let outcome = poller.tick().await;
                    (poller, outcome)
                });
                tokio::select! {
                    call = calls.recv() => State::Calling(tick, Box::new(call.expect("the line is open"))),
                    (poller, outcome) = &mut tick => {
                        let quiet = matches!(outcome, Ok(Outcome::Idle | Outcome::Standby));
                        assert!(quiet, "{outcome:?}");
                        State::Idle(poller)
                    }
                }
            }
            other => other,
        };
        let two = self.calling(0) != self.calling(1);
        self.numbers.overtaken += usize::from(two);
    }

    /// One of the pollers that wait for the broker.
    pub(super) fn calling(&self, which: usize) -> Option<usize> {
        let calling: Vec<usize> = (0..POLLERS)
            .filter(|poller| matches!(self.pollers[*poller].state, State::Calling(..)))
            .collect();
        Some(calling[which.checked_rem(calling.len())?])
    }

    pub(super) async fn answer(&mut self, poller: usize) {
        let state = &mut self.pollers[poller].state;
        *state = match std::mem::replace(state, State::Moving) {
            State::Calling(tick, call) => {
                call.answer();
                let (poller, outcome) = tick.await;
                let called = matches!(outcome, Ok(Outcome::Progress) | Err(Error::Publish(_)));
                assert!(called, "{outcome:?}");
                State::Idle(poller)
            }
            other => other,
        };
    }

    /// A poller dies after this many further steps of its tick.
    pub(super) async fn crash(&mut self, poller: usize, mut steps: usize) {
        let fresh = Replica::start(&self.database);
        let dying = std::mem::replace(&mut self.pollers[poller], fresh);
        if let State::Calling(mut tick, call) = dying.state {
            self.numbers.poller_crashes += 1;
            if steps > 0 {
                call.answer();
            }
            std::future::poll_fn(|context| {
                if steps == 0 {
                    return Poll::Ready(());
                }
                steps -= 1;
                tick.as_mut().poll(context).map(|_| ())
            })
            .await;
        }
    }

    pub(super) async fn requeue(&mut self) {
        for parked in self.db.parked_events().await.expect("a query") {
            self.numbers.parked += 1;
            self.db
                .requeue_event(parked.event_id)
                .await
                .expect("a statement");
        }
    }
}
