//! The password engine, next to the crate it replaces and to the best cracker.

use std::{
    num::NonZeroUsize,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use auth_service::password::{Hasher, HasherSettings, Password, PasswordHash};
use zeroize::Zeroizing;

use crate::{
    Result,
    load::{Client, steady_rate},
    stats::{median, rate},
    table::Table,
};

/// The service's default, whose speed is the service's.
pub const COST: u32 = 12;
/// Of every account here.
pub const PASSWORD: &str = "correct horse battery staple";
/// More callers than lanes.
pub const CALLERS: usize = 32;

const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(6);

/// All rows about hashes without gRPC.
pub async fn measure(table: &mut Table) -> Result<()> {
    let engine = Engine::start()?;
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        rates[0].push(engine.rate().await?);
        rates[1].push(crate_rate(&engine.hash));
    }
    let [ours, theirs] = rates.map(|rates| median(&rates));
    let name = |what: &str| format!("hashes/s at cost {COST}, all cores, against {what}");
    let what = "the crate";
    table.rates(&name("the bcrypt crate"), ours, what, theirs, ">= 3.1x");
    match john() {
        Some(john) => table.rates(&name("John the Ripper"), ours, "john", john, ">= 1.4x"),
        None => table.row(&name("John the Ripper"), "", "no john here", "", ">= 1.4x"),
    }
    alone(table, &engine).await
}

async fn alone(table: &mut Table, engine: &Engine) -> Result<()> {
    let mut caller = engine.caller();
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..8 {
        let begun = Instant::now();
        caller.call().await?;
        times[0].push(begun.elapsed());
        let begun = Instant::now();
        verify_by_the_crate(&engine.hash);
        times[1].push(begun.elapsed());
    }
    let [ours, theirs] = times.map(|times| median(&times));
    table.times("one hash alone", ours, "the crate", theirs, "<= 1.0x");
    Ok(())
}

/// The engine with the hash of an account, and patience.
pub struct Engine {
    hasher: Arc<Hasher>,
    /// bcrypt's text.
    pub hash: String,
}

impl Engine {
    /// One thread per core, like the service.
    pub fn start() -> Result<Self> {
        let hasher = Hasher::start(HasherSettings {
            cost: COST,
            threads: cores(),
            max_wait: Duration::from_hours(1),
        })?;
        Ok(Self {
            hasher: Arc::new(hasher),
            hash: bcrypt::hash(PASSWORD, COST)?,
        })
    }

    /// Hashes a second with all the lanes in use.
    pub async fn rate(&self) -> Result<f64> {
        let callers = (0..CALLERS).map(|_| self.caller()).collect();
        steady_rate(callers, WARM_UP, WINDOW).await
    }

    fn caller(&self) -> Caller {
        Caller {
            hasher: Arc::clone(&self.hasher),
            password: Password::new(Zeroizing::new(PASSWORD.to_owned())),
            hash: PasswordHash::parse(&self.hash).expect("a bcrypt hash"),
        }
    }
}

struct Caller {
    hasher: Arc<Hasher>,
    password: Password,
    hash: PasswordHash,
}

impl Client for Caller {
    async fn call(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_hours(2);
        let verified = self
            .hasher
            .verify(&self.password, Some(&self.hash), deadline);
        verified.await?.ok_or("the password is right")?;
        Ok(())
    }
}

fn cores() -> NonZeroUsize {
    thread::available_parallelism().expect("cores")
}

fn verify_by_the_crate(hash: &str) {
    assert!(bcrypt::verify(PASSWORD, hash).expect("a bcrypt hash"));
}

/// The crate on as many threads.
fn crate_rate(hash: &str) -> f64 {
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|threads| {
        let begun = Instant::now();
        for _ in 0..cores().get() {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    verify_by_the_crate(hash);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(WINDOW);
        stop.store(true, Ordering::Relaxed);
        // Half of a hash on each thread is not counted, of some twenty.
        rate(done.load(Ordering::Relaxed), begun.elapsed())
    })
}

/// John's own benchmark, on all cores; it hashes at cost 5.
fn john() -> Option<f64> {
    let arguments = ["--test=5", "--format=bcrypt"];
    let output = Command::new("john").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (_, raw) = text.split_once("Raw:")?;
    let speed = raw.split_whitespace().next()?;
    let speed: f64 = match speed.strip_suffix('K') {
        Some(thousands) => 1000.0 * thousands.parse::<f64>().ok()?,
        None => speed.parse().ok()?,
    };
    Some(speed / f64::from(1 << (COST - 5)))
}
