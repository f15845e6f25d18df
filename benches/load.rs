//! Closed loops: so many clients, each with one call at a time.

use std::{
    sync::{Arc, Mutex},
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

/// Calls a second in `window` after `warm_up`, while all the clients call. Calls end in bursts,
/// as the hashes of one thread do: so it is counted from the end of a call to that of another,
/// and not from one moment to the other, where a burst more or less would be 4 %. What runs at
/// the end is dropped.
pub async fn steady_rate<C: Client>(
    clients: Vec<C>,
    warm_up: Duration,
    window: Duration,
) -> Result<f64> {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let ends = Arc::clone(&ends);
        tasks.spawn(async move {
            loop {
                if let Err(error) = client.call().await {
                    return error;
                }
                ends.lock().expect("no panic").push(Instant::now());
            }
        });
    }
    let counting = async {
        sleep(warm_up).await;
        let before = ends.lock().expect("no panic").len();
        sleep(window).await;
        let ends = ends.lock().expect("no panic");
        let first = before
            .checked_sub(1)
            .ok_or("no call ended in the warm-up")?;
        let time = ends[ends.len() - 1] - ends[first];
        Ok(stats::rate(ends.len() - before, time))
    };
    tokio::select! {
        rate = counting => rate,
        Some(failed) = tasks.join_next() => Err(failed?),
    }
}
