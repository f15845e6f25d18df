use std::iter::from_fn;

use bcrypt_lanes::{Key, LANES, Lanes};

use super::*;

/// Takes so long that no test sees its end.
const ENDLESS: u32 = 31;
const OTHER: Purpose = Purpose::Answer(Priority::Other);
const LONG: Duration = Duration::from_hours(1_000_000);

fn engine(threads: usize) -> Engine {
    let times = RoundTimes::new(vec![Duration::ZERO; LANES]);
    let threads = NonZeroUsize::new(threads).unwrap();
    Engine::start(threads, LONG, times, Metrics::unregistered()).unwrap()
}

fn work(name: u8, cost: u32) -> Work {
    Work::new(Key::new(b"x"), cost, [name; 16])
}

impl Engine {
    fn ask(&self, name: u8, cost: u32) -> Result<Ticket<'_>, HashError> {
        self.ask_and_watch(name, cost, Began::default())
    }

    fn ask_and_watch(&self, name: u8, cost: u32, began: Began) -> Result<Ticket<'_>, HashError> {
        let deadline = tokio::time::Instant::now() + Duration::from_hours(100_000);
        self.admit(work(name, cost), OTHER, Some(deadline), began)
    }

    /// Keeps so many lanes busy.
    fn fill(&self, lanes: usize) -> Vec<Ticket<'_>> {
        let tickets = from_fn(|| Some(self.ask(0, ENDLESS).unwrap()));
        let tickets = tickets.take(lanes).collect();
        wait_until(|| self.metrics.lanes_busy() == i64::try_from(lanes).unwrap());
        tickets
    }
}

/// The test binary's time limit ends a wait for what never comes.
fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

fn digest(name: u8, cost: u32) -> Digest {
    let mut lanes = Lanes::default();
    lanes.join(&work(name, cost), ());
    lanes.advance(u32::MAX);
    lanes.complete()[0].1
}

#[tokio::test]
async fn a_hash_joins_others_that_go_on() {
    let engine = engine(1);
    let _endless = engine.fill(1);
    for name in 1..20 {
        let ticket = engine.ask(name, 4).unwrap();
        assert_eq!(ticket.digest().await, Ok(digest(name, 4)));
    }
}

#[tokio::test]
async fn an_abandoned_hash_frees_its_lane() {
    let engine = engine(2);
    let mut endless = engine.fill(2 * LANES);
    let waiting = engine.ask(1, 4).unwrap();
    endless.pop();
    assert_eq!(waiting.digest().await, Ok(digest(1, 4)));
}

#[tokio::test]
async fn an_abandoned_hash_leaves_the_queue() {
    let engine = engine(1);
    let mut endless = engine.fill(LANES);
    let gone = engine.ask(1, 4).unwrap();
    let stays = engine.ask(2, 4).unwrap();
    drop(gone.digest());
    assert_eq!(engine.shared.lock().queue.in_flight(), LANES + 1);
    endless.pop();
    assert_eq!(stays.digest().await, Ok(digest(2, 4)));
}

#[tokio::test]
async fn a_hash_has_begun_once_it_has_a_lane() {
    let engine = engine(1);
    let [refused, cancelled, computed] = [(); 3].map(|()| Began::default());
    let mut endless = engine.fill(LANES);
    let late = engine.admit(
        work(1, 31),
        OTHER,
        Some(tokio::time::Instant::now()),
        refused.clone(),
    );
    drop(late);
    let waits = engine.ask_and_watch(1, 4, computed.clone()).unwrap();
    drop(
        engine
            .ask_and_watch(2, 4, cancelled.clone())
            .unwrap()
            .digest(),
    );
    assert!(!computed.get(), "it waits");
    endless.pop();
    waits.digest().await.unwrap();
    assert!(computed.get());
    assert!(!cancelled.get() && !refused.get());
}

#[tokio::test]
async fn a_dropped_hash_has_begun_or_never_begins() {
    let engine = engine(2);
    let at_the_drop = [(); 1_000].map(|()| {
        let began = Began::default();
        drop(engine.ask_and_watch(0, ENDLESS, began.clone()));
        (began.get(), began)
    });
    // A hash that still waited would begin before this one.
    engine.ask(1, 4).unwrap().digest().await.unwrap();
    for (at_the_drop, began) in at_the_drop {
        assert_eq!(began.get(), at_the_drop);
    }
}

#[test]
fn every_thread_hashes() {
    let engine = engine(2);
    let _two = engine.fill(2);
    let state = engine.shared.lock();
    assert!(!state.queue.is_idle(0) && !state.queue.is_idle(1));
}

#[test]
fn a_hash_that_would_wait_too_long_is_refused_at_once() {
    let engine = engine(1);
    let _endless = engine.fill(LANES);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let refused = loop {
        // Until the engine knows how slow it is.
        match engine.admit(work(1, 4), OTHER, Some(deadline), Began::default()) {
            Ok(ticket) => drop(ticket),
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(refused, HashError::Overloaded { retry_after } if retry_after > Duration::from_secs(1))
    );
    assert!(engine.ask(1, 4).is_ok(), "with a later deadline");
}

#[tokio::test]
async fn a_thread_that_dies_fails_every_caller_and_says_so() {
    let engine = engine(2);
    let running = engine.fill(2 * LANES);
    // A queue for one thread: the other one panics when it reports its lanes.
    let times = RoundTimes::new(vec![Duration::ZERO; LANES]);
    let mut queue = Queue::new(NonZeroUsize::MIN, LONG, times);
    let (reply, waiting) = oneshot::channel();
    let job = Job {
        work: work(0, 4),
        purpose: OTHER,
        began: Began::default(),
        reply: (reply, engine.metrics.waiting()),
    };
    queue.admit(job, Some(LONG)).1.unwrap();
    engine.shared.lock().queue = queue;
    engine.failed().await;
    assert!(waiting.await.is_err());
    for ticket in running {
        assert_eq!(ticket.digest().await, Err(HashError::Stopped));
    }
    assert_eq!(engine.ask(0, 4).err(), Some(HashError::Stopped));
}

#[test]
fn dropping_the_engine_ends_its_threads() {
    let engine = engine(2);
    let shared = Arc::downgrade(&engine.shared);
    drop(engine);
    wait_until(|| shared.strong_count() == 0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_threads_have_a_lower_priority_than_their_starter() {
    use rustix::process::{Pid, getpriority_process};

    // More threads than any other test has, so that the last one is found by its name.
    const THREADS: usize = 5;
    let engine = engine(THREADS);
    let _busy = engine.fill(THREADS * LANES);
    let last = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| task.unwrap())
        .find(|task| std::fs::read(task.path().join("comm")).unwrap() == b"password-4\n");
    let last = last.unwrap().file_name().into_string().unwrap();
    let last = Pid::from_raw(last.parse().unwrap());
    let starter = getpriority_process(None).unwrap();
    assert_eq!(getpriority_process(last), Ok((starter + 10).min(19)));
}
