//! How long something lasts.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

pub struct Timer {
    limit: Duration,
    /// Since it lasts.
    runs: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub fn new(limit: Duration) -> Self {
        Self { limit, runs: None }
    }

    /// Whether it has lasted for too long. Otherwise the task is woken when it has.
    pub fn is_over(&mut self, lasts: bool, context: &mut Context<'_>) -> bool {
        if !lasts {
            self.runs = None;
            return false;
        }
        let limit = self.limit;
        let sleep = self.runs.get_or_insert_with(|| Box::pin(sleep(limit)));
        sleep.as_mut().poll(context) == Poll::Ready(())
    }

    /// It begins anew.
    pub fn restart(&mut self) {
        self.runs = None;
    }
}
