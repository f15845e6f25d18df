//! The password engine, compared with the `bcrypt` crate and with John the Ripper.

use std::{
    hint::black_box,
    num::NonZeroUsize,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use auth_service::password::{
    Began, Hasher, Password, PasswordHash, Policy, Priority, Request, Settings,
};
use bcrypt_lanes::{Key, LANES, Lanes, Work};
use prometheus_client::registry::Registry;
use zeroize::Zeroizing;

use crate::{
    Result,
    load::{Client, steady_rate},
    stats::{median, rate},
    table::Table,
};

/// The default of the service.
pub const COST: u32 = 12;
/// The password of all accounts.
pub const PASSWORD: &str = "correct horse battery staple";
/// More callers than lanes on up to five cores.
pub const CALLERS: usize = 48;

const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(6);

pub async fn measure(table: &mut Table) -> Result<()> {
    let engine = Engine::start()?;
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rates[0].push(engine.rate().await?);
        rates[1].push(rate_of_all_cores(WINDOW, || {
            verify_by_the_crate(&engine.hash);
            1
        }));
        rates[2].extend(john());
    }
    let [ours, theirs, johns] = &rates;
    let (ours, theirs) = (median(ours), median(theirs));
    let name = |what: &str| format!("hashes/s at cost {COST}, all cores, against {what}");
    let what = "the crate";
    table.rates(&name("the bcrypt crate"), ours, what, theirs, ">= 3.1x");
    let against_john = name("John the Ripper");
    if johns.is_empty() {
        table.row(&against_john, "", "no john here", "", ">= 1.4x");
    } else {
        table.rates(&against_john, ours, "john", median(johns), ">= 1.4x");
    }
    lanes(table);
    alone(table, &engine).await?;
    checked(table).await
}

/// The kernel without the engine, which uses as many lanes as the cache of a core holds. The
/// numbers of lanes alternate, so that other load affects all of them.
fn lanes(table: &mut Table) {
    let mut rates = [const { Vec::new() }; LANES];
    for _ in 0..ROUNDS {
        for (n, rates) in rates.iter_mut().enumerate() {
            rates.push(rate_of_all_cores(WINDOW / 3, || hash_in_lanes(n + 1)));
        }
    }
    let rates = rates.map(|rates| format!("{:.1}", median(&rates)));
    let name = format!("the same by lanes, 1 to {LANES}");
    table.row(&name, &rates.join(", "), "", "", "");
}

fn hash_in_lanes(count: usize) -> usize {
    let mut lanes = Lanes::default();
    for _ in 0..count {
        let work = Work::new(Key::new(PASSWORD.as_bytes()), COST, [7; 16]);
        lanes.join(&work, ());
    }
    lanes.advance(u32::MAX);
    lanes.complete().into_iter().map(black_box).count()
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

/// Crafted passwords: short words between characters that look like several letters.
const CRAFTED: [&str; 4] = [
    "4@8({[<3691!|70$5+%24@8(",
    "p4ss@w0rd({[<1!|7$5+69in",
    "1a1679.7619!46",
    "iofana8!(12Zonofof70tis",
];

/// The policy's time for the slowest of the crafted passwords, against zxcvbn without a bound.
async fn checked(table: &mut Table) -> Result<()> {
    let policy = Policy::start(&settings(4))?;
    let mut slowest = [Duration::ZERO; 2];
    for text in CRAFTED {
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..9 {
            let password = Password::new(Zeroizing::new(text.to_owned()));
            let (begun, request) = (Instant::now(), request());
            let checked = policy.check(password, "ana@example.com", &request);
            black_box(checked.await?.is_ok());
            times[0].push(begun.elapsed());
            let begun = Instant::now();
            black_box(zxcvbn::zxcvbn(text, &["ana@example.com"]));
            times[1].push(begun.elapsed());
        }
        let medians = times.map(|times| median(&times));
        slowest = [0, 1].map(|which| slowest[which].max(medians[which]));
    }
    let name = "the slowest crafted new password, checked";
    table.times(name, slowest[0], "zxcvbn", slowest[1], "<= 5 ms");
    Ok(())
}

fn settings(min_score: u8) -> Settings {
    Settings {
        cost: COST,
        threads: cores(),
        max_wait: Duration::from_hours(1),
        min_score,
        context_words: Vec::new(),
        blocklist: None,
    }
}

/// The engine without a limit of the wait, and the hash of an account.
pub struct Engine {
    hasher: Arc<Hasher>,
    /// In bcrypt's text form.
    pub hash: String,
}

impl Engine {
    /// Starts one thread per core, like the service.
    pub fn start() -> Result<Self> {
        let hasher = Hasher::start(&settings(0), &mut Registry::default())?;
        Ok(Self {
            hasher: Arc::new(hasher),
            hash: bcrypt::hash(PASSWORD, COST)?,
        })
    }

    /// Hashes per second with all lanes in use.
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

fn request() -> Request {
    Request {
        priority: Priority::Other,
        deadline: tokio::time::Instant::now() + Duration::from_hours(2),
        began: Began::default(),
    }
}

struct Caller {
    hasher: Arc<Hasher>,
    password: Password,
    hash: PasswordHash,
}

impl Client for Caller {
    async fn call(&mut self) -> Result<()> {
        let verified = self
            .hasher
            .verify(&self.password, Some(&self.hash), request());
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

/// Hashes per second of one thread per core, each of which calls `hash` in a loop. The time of
/// each thread ends with its last hash.
fn rate_of_all_cores(window: Duration, hash: impl Fn() -> usize + Sync) -> f64 {
    let one = || {
        let (begun, mut done) = (Instant::now(), 0);
        while begun.elapsed() < window {
            done += hash();
        }
        rate(done, begun.elapsed())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores().get()).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    })
}

/// John's own benchmark on all cores. It hashes at cost 5, which is 65 key expansions instead
/// of 8193.
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
    Some(speed * 65.0 / 8193.0)
}
