//! Closed loops: so many clients, each with one call at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    Result,
    stats::{self, percentile},
};

/// Who calls. One call follows from the one before.
pub trait Client: Send + 'static {
    /// Makes the next call.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What the clients saw.
#[derive(Clone)]
pub struct Seen {
    latencies: Vec<Duration>,
    time: Duration,
}

impl Seen {
    /// Calls a second.
    pub fn rate(&self) -> f64 {
        stats::rate(self.latencies.len(), self.time)
    }

    /// How long a call took.
    pub fn percentile(&self, share: f64) -> Duration {
        percentile(&self.latencies, share)
    }
}

/// Lets the clients call, all at once, for `time`.
pub async fn closed_loop<C: Client>(clients: &mut Vec<C>, time: Duration) -> Result<Seen> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients.drain(..) {
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut now = Instant::now();
            while now < started + time {
                client.call().await?;
                let begun = now;
                now = Instant::now();
                latencies.push(now - begun);
            }
            Ok::<_, crate::Failure>((client, latencies))
        });
    }
    let mut seen = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (client, latencies) = ended??;
        clients.push(client);
        seen.extend(latencies);
    }
    Ok(Seen {
        latencies: seen,
        time: started.elapsed(),
    })
}

/// Calls a second, counted for `window` after `warm_up` while all the clients call. What
/// runs at the end is dropped.
pub async fn steady_rate<C: Client>(
    clients: Vec<C>,
    warm_up: Duration,
    window: Duration,
) -> Result<f64> {
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let done = Arc::clone(&done);
        tasks.spawn(async move {
            loop {
                if let Err(error) = client.call().await {
                    return error;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let counting = async {
        sleep(warm_up).await;
        let (before, begun) = (done.load(Ordering::Relaxed), Instant::now());
        sleep(window).await;
        let count = done.load(Ordering::Relaxed) - before;
        stats::rate(count, begun.elapsed())
    };
    tokio::select! {
        rate = counting => Ok(rate),
        Some(failed) = tasks.join_next() => Err(failed?),
    }
}
