use std::sync::mpsc::{self, Receiver};

use bcrypt_lanes::{Key, LANES};
use prometheus_client::registry::Registry;

use super::*;

/// Takes so long that no test sees its end.
const ENDLESS: u32 = 31;
const LONG: Duration = Duration::from_hours(1_000_000);

/// An engine that says which hashes begin. A job is known by its salt.
fn engine(threads: usize) -> (Engine, Receiver<u8>) {
    let (say, began) = mpsc::channel();
    let engine = start(threads, move |lane, work| {
        lane.begin(work);
        say.send(work.salt[0]).ok();
    });
    (engine, began)
}

fn start(threads: usize, begin: impl Fn(&mut Lane, &Work) + Clone + Send + 'static) -> Engine {
    let pace = Pace::new([Duration::ZERO; LANES]);
    let metrics = Metrics::register(&mut Registry::default());
    Engine::start(
        NonZeroUsize::new(threads).unwrap(),
        LONG,
        pace,
        metrics,
        begin,
    )
    .unwrap()
}

fn work(name: u8, cost: u32) -> Work {
    Work {
        key: Key::new(b"x"),
        cost,
        salt: [name; 16],
    }
}

impl Engine {
    fn ask(&self, name: u8, cost: u32) -> Result<Ticket<'_>, HashError> {
        let deadline = tokio::time::Instant::now() + Duration::from_hours(100_000);
        self.admit(work(name, cost), Purpose::Answer, deadline)
    }

    /// Keeps all lanes of so many threads busy.
    fn fill(&self, threads: usize, began: &Receiver<u8>) -> Vec<Ticket<'_>> {
        let ticket = |_| {
            let ticket = self.ask(0, ENDLESS).unwrap();
            assert_eq!(began.recv(), Ok(0));
            ticket
        };
        (0..threads * LANES).map(ticket).collect()
    }
}

fn digest(name: u8, cost: u32) -> Digest {
    let mut lanes = Lanes::default();
    lanes.join(&work(name, cost), (), Lane::begin);
    lanes.advance(u32::MAX);
    lanes.complete()[0].1
}

#[tokio::test]
async fn a_hash_joins_others_that_go_on() {
    let (engine, began) = engine(1);
    let _endless = engine.ask(0, ENDLESS).unwrap();
    assert_eq!(began.recv(), Ok(0));
    for name in 1..20 {
        let ticket = engine.ask(name, 4).unwrap();
        assert_eq!(ticket.digest().await, Ok(digest(name, 4)));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_frees_its_lane() {
    let (engine, began) = engine(2);
    let mut endless = engine.fill(2, &began);
    let waiting = engine.ask(1, 4).unwrap();
    endless.pop();
    assert_eq!(waiting.digest().await, Ok(digest(1, 4)));
}

#[tokio::test]
async fn a_caller_that_goes_away_gives_up_its_place() {
    let (engine, began) = engine(1);
    let mut endless = engine.fill(1, &began);
    let gone = engine.ask(1, 4).unwrap();
    let stays = engine.ask(2, 4).unwrap();
    drop(gone.digest());
    endless.pop();
    assert_eq!(stays.digest().await, Ok(digest(2, 4)));
    drop(endless);
    drop(engine);
    assert_eq!(began.iter().collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn first_come_is_first_served() {
    let (engine, began) = engine(1);
    let mut endless = engine.fill(1, &began);
    let tickets: Vec<_> = (1..9).map(|name| engine.ask(name, 4).unwrap()).collect();
    endless.pop();
    for (name, ticket) in (1..9).zip(tickets) {
        assert_eq!(ticket.digest().await, Ok(digest(name, 4)));
    }
    assert!(began.try_iter().eq(1..9));
}

#[test]
fn every_thread_hashes() {
    let (say, began) = mpsc::channel();
    let engine = start(2, move |_, _| say.send(thread::current().id()).unwrap());
    let _one = engine.ask(1, ENDLESS).unwrap();
    let _other = engine.ask(2, ENDLESS).unwrap();
    assert_ne!(began.recv().unwrap(), began.recv().unwrap());
}

#[test]
fn who_would_wait_too_long_is_refused_at_once() {
    let (engine, began) = engine(1);
    let _endless = engine.fill(1, &began);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let refused = loop {
        // Until the engine knows how slow it is.
        match engine.admit(work(1, 4), Purpose::Answer, deadline) {
            Ok(ticket) => drop(ticket),
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(refused, HashError::Overloaded { retry_after } if retry_after > Duration::from_secs(1))
    );
    assert!(engine.ask(1, 4).is_ok(), "somebody with more patience");
}

#[tokio::test]
async fn a_thread_that_dies_fails_every_caller_and_says_so() {
    let begin = |lane: &mut Lane, work: &Work| {
        assert_eq!(work.salt[0], 0, "this is the panic");
        lane.begin(work);
    };
    let engine = start(2, begin);
    let running = engine.ask(0, ENDLESS).unwrap();
    let deadly = engine.ask(1, 4).unwrap();
    engine.failed().await;
    assert_eq!(running.digest().await, Err(HashError::Stopped));
    assert_eq!(deadly.digest().await, Err(HashError::Stopped));
    assert_eq!(engine.ask(0, 4).err(), Some(HashError::Stopped));
}

#[test]
fn dropping_the_engine_ends_its_threads() {
    let (engine, began) = engine(2);
    drop(engine);
    // The threads held the other ends of the channel.
    assert!(began.recv().is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn the_threads_have_a_lower_priority_than_their_starter() {
    let nice = || rustix::process::getpriority_process(None).unwrap();
    let (tell, told) = mpsc::channel();
    let begin = move |_: &mut Lane, _: &Work| tell.send(nice()).unwrap();
    let engine = start(1, begin);
    let _ticket = engine.ask(1, 4).unwrap();
    assert_eq!(told.recv(), Ok((nice() + 10).min(19)));
}
