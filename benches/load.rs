//! Closed loops: a number of clients, each with one call at a time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    Result,
    stats::{self, percentile},
};

/// A client may use the answer of one call in the next.
pub trait Client: Send + 'static {
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

#[derive(Clone)]
pub struct Measured {
    latencies: Vec<Duration>,
    time: Duration,
}

impl Measured {
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Calls per second.
    pub fn rate(&self) -> f64 {
        stats::rate(self.count(), self.time)
    }

    /// The latency below which `share` of the calls lie.
    pub fn percentile(&self, share: f64) -> Duration {
        percentile(&self.latencies, share)
    }
}

/// Runs all clients concurrently for `time`.
pub async fn closed_loop<C: Client>(clients: &mut Vec<C>, time: Duration) -> Result<Measured> {
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
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (client, latencies) = ended??;
        clients.push(client);
        all.extend(latencies);
    }
    Ok(Measured {
        latencies: all,
        time: started.elapsed(),
    })
}

/// Calls per second in `window` after `warm_up`, while all clients call.
///
/// Hashes of one thread end together, so calls end in bursts. The window therefore begins and
/// ends with the end of a call: a fixed window would count one burst more or less, which is
/// 4 %. Calls that still run at the end are cancelled.
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
