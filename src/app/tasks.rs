//! The tasks of the service, each with a name for the log.
//!
//! A task runs until it is asked to stop. If a task ends earlier, the process stops, because a
//! restart is better than a service with a missing part.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a task, which must end when the token that it gets is cancelled.
    pub(super) fn spawn<T>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> T)
    where
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let started = self.running.spawn(task(self.stop.clone()));
        self.names.insert(started.id(), name);
    }

    /// Waits until a task ends by itself. The error names the task and the cause.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let Some((name, result)) = self.next().await else {
            return anyhow!("no task was started");
        };
        match result {
            Err(error) => error,
            Ok(()) => anyhow!("the task `{name}` ended before its time"),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all tasks have ended, and returns the first error.
    pub(super) async fn ended(&mut self) -> anyhow::Result<()> {
        let mut all = Ok(());
        while let Some((_, result)) = self.next().await {
            all = all.and(result);
        }
        all
    }

    async fn next(&mut self) -> Option<(&'static str, anyhow::Result<()>)> {
        let ended = self.running.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let name = self.names.remove(&id).unwrap_or("unknown");
        let result = match ended {
            Ok((_, result)) => result.with_context(|| format!("the task `{name}` failed")),
            Err(panic) => Err(panic).with_context(|| format!("the task `{name}` panicked")),
        };
        Some((name, result))
    }
}
