//! A login does not show whether an account exists, and the end of a session does not show whether
//! the session is another user's: neither by the answer nor by its time.
//!
//! The times are compared with the Mann-Whitney U test. The kinds of login alternate in random
//! order, so other load on the machine affects all of them alike: without a difference each order
//! of ranks has the same probability, on a noisy machine too. A false alarm has a probability
//! below `ALPHA` for each comparison. The test computes from the samples the smallest difference
//! that it would detect, prints it and asserts it: a test that could not detect a skipped hash
//! fails. With 30 samples of each kind that is about 1.6 standard deviations of the noise (some 10
//! ms of 60 on an idle machine), with 600 (`TEST_SOAK`) a third of one.

mod mails;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use auth_service::proto;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use prost::Message as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::{
    Answer, Backend, PASSWORD, Random, RawConnection, Service, TestDatabase, both, crc32,
    end_session, framed, reason, register, soak,
};

const LOGIN: &str = "/realchat.auth.v1.AuthService/Login";
const END_SESSION: &str = "/realchat.auth.v1.AccountService/EndSession";
const ALPHA: f64 = 1e-6;
/// A login without a hash takes almost no time. This part of a hash must be detectable.
const SEEN_PART: f64 = 0.9;
const MOST_BATCHES: usize = 5;

/// The addresses of suspended accounts begin so.
const SUSPENDED: &str = "known-h";

/// A kind of login that must not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    KnownWrong,
    UnknownWrong,
    KnownTooLong,
    UnknownTooLong,
    KnownNul,
    UnknownNul,
    MalformedEmail,
    KnownForeignDevice,
    UnknownForeignDevice,
    /// An account without a usable password.
    KnownUnusable,
    /// An account with a hash of cost 4.
    KnownImported,
    /// The same with a password that has another NFD form.
    KnownImportedAccent,
    UnknownAccent,
    KnownSuspended,
}

impl Kind {
    /// The `n`th login of this kind. Each is for another account, so no throttle and no cache has
    /// seen it before.
    fn request(self, n: usize) -> Vec<u8> {
        let email = match self {
            Self::KnownWrong => format!("known-a-{n}@example.com"),
            Self::KnownTooLong => format!("known-b-{n}@example.com"),
            Self::KnownNul => format!("known-c-{n}@example.com"),
            Self::UnknownWrong => format!("other-a-{n}@example.com"),
            Self::UnknownTooLong => format!("other-b-{n}@example.com"),
            Self::UnknownNul => format!("other-c-{n}@example.com"),
            Self::MalformedEmail => format!("other-d-{n}.example.com"),
            Self::KnownForeignDevice => format!("known-d-{n}@example.com"),
            Self::UnknownForeignDevice => format!("other-e-{n}@example.com"),
            Self::KnownUnusable => format!("known-e-{n}@example.com"),
            Self::KnownImported => format!("known-f-{n}@example.com"),
            Self::KnownImportedAccent => format!("known-g-{n}@example.com"),
            Self::UnknownAccent => format!("other-f-{n}@example.com"),
            Self::KnownSuspended => format!("{SUSPENDED}-{n}@example.com"),
        };
        let password = match self {
            Self::KnownWrong
            | Self::UnknownWrong
            | Self::MalformedEmail
            | Self::KnownUnusable
            | Self::KnownImported
            | Self::KnownSuspended
            | Self::KnownForeignDevice
            | Self::UnknownForeignDevice => "wrong".to_owned(),
            Self::KnownImportedAccent | Self::UnknownAccent => "wr\u{f6}ng".to_owned(),
            // It begins with the right password, and bcrypt would ignore the rest.
            Self::KnownTooLong | Self::UnknownTooLong => format!("{}x", right_password()),
            Self::KnownNul | Self::UnknownNul => format!("{}\0", right_password()),
        };
        let device_token = match self {
            Self::KnownForeignDevice | Self::UnknownForeignDevice => foreign_device(),
            _ => String::new(),
        };
        let request = proto::LoginRequest {
            email,
            password,
            device_token,
            ..Default::default()
        };
        framed(&request.encode_to_vec())
    }
}

/// A well-formed device token that no account has.
fn foreign_device() -> String {
    let body = [&[1][..], &[7; 16], &20_000_u32.to_be_bytes(), &[9; 16]].concat();
    let bytes = [&body[..], &crc32(&body).to_be_bytes()].concat();
    format!("rcd_{}", BASE64URL.encode(bytes))
}

/// The longest possible password.
fn right_password() -> String {
    let mut password = PASSWORD.repeat(3);
    password.truncate(72);
    password
}

/// Inserts accounts `known-{a,b,c,d}-{0..count}` with the same hash, so that the test pays for
/// one, `known-e-{0..count}` without a usable password, `known-{f,g}-{0..count}` with a hash
/// that another system made, and suspended ones.
async fn accounts(service: &Service, count: usize) {
    let request = proto::RegisterRequest {
        password: right_password(),
        ..register("first@example.com")
    };
    service.client().register(request).await.expect("registers");
    let id = match service.database.backend() {
        Backend::Sqlite => "randomblob(16)",
        Backend::Postgres => "gen_random_uuid()",
    };
    let hash = service.database.password_hash("first@example.com").await;
    let hash = hash.as_str();
    let imported = bcrypt::hash(right_password(), 4).expect("a cost of bcrypt");
    for (letter, hash) in [
        ("a", hash),
        ("b", hash),
        ("c", hash),
        ("d", hash),
        ("e", ""),
        ("f", &imported),
        ("g", &imported),
        ("h", hash),
    ] {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO users (id, email, password_hash, event_version, created_at, \
             password_changed_at) SELECT {id}, 'known-{letter}-' || i || '@example.com', \
             '{hash}', 1, created_at, password_changed_at FROM users, n \
             WHERE email = 'first@example.com'"
        );
        service.database.execute(&sql).await;
    }
    let suspend = format!(
        "UPDATE users SET suspended_at = created_at, suspension_reason = 'spam' \
         WHERE email LIKE '{SUSPENDED}-%'"
    );
    service.database.execute(&suspend).await;
}

struct Samples {
    times: Vec<(Kind, f64)>,
    answers: BTreeSet<String>,
}

impl Samples {
    /// `rounds` logins of each kind, in random order. More rounds follow while the noise is too
    /// strong to detect a skipped hash in one of the pairs.
    async fn take(service: &Service, pairs: &[(Kind, Kind)], rounds: usize) -> Self {
        let mut kinds = Vec::new();
        for kind in pairs.iter().flat_map(|(one, other)| [*one, *other]) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        accounts(service, MOST_BATCHES * rounds).await;
        let connection = RawConnection::open(service.addr).await;
        let mut random = Random::new();
        let mut samples = Self {
            times: Vec::new(),
            answers: BTreeSet::new(),
        };
        // The first answers also fill caches.
        for n in 0..3 {
            let answer = login(&connection, Kind::MalformedEmail, n).await;
            samples.answers.insert(answer.fingerprint());
        }
        for n in 0..MOST_BATCHES * rounds {
            if n > 0 && n % rounds == 0 && pairs.iter().all(|pair| samples.suffice_for(*pair)) {
                break;
            }
            let mut order = kinds.clone();
            random.shuffle(&mut order);
            for kind in order {
                let started = Instant::now();
                let answer = login(&connection, kind, n).await;
                samples.add(kind, started.elapsed(), &answer);
            }
        }
        samples
    }

    fn add(&mut self, kind: Kind, time: Duration, answer: &Answer) {
        self.times.push((kind, time.as_secs_f64() * 1e3));
        self.answers.insert(answer.fingerprint());
        let status = answer.status().expect("a status");
        let expected = (Code::Unauthenticated, "INVALID_CREDENTIALS".to_owned());
        assert_eq!(reason(&status), expected, "{kind:?}");
    }

    /// Whether more samples are not needed: a difference is found, or one would have been found.
    fn suffice_for(&self, (one, other): (Kind, Kind)) -> bool {
        let (a, b) = (self.of(one), self.of(other));
        p_value(&a, &b) <= ALPHA || detectable(&a, &b) < SEEN_PART * median(&a)
    }

    fn of(&self, kind: Kind) -> Vec<f64> {
        let times = self.times.iter().filter(|(of, _)| *of == kind);
        times.map(|(_, time)| *time).collect()
    }

    /// Asserts that two kinds take equally long, and that a skipped hash would have been detected.
    fn assert_alike(&self, one: Kind, other: Kind) {
        let (a, b) = (self.of(one), self.of(other));
        let p = p_value(&a, &b);
        let (seen, whole) = (detectable(&a, &b), median(&a));
        eprintln!(
            "{one:?} and {other:?}: {} samples each, medians {whole:.2} and {:.2} ms, p = {p:.3}, \
             a difference of {seen:.2} ms would have been seen",
            a.len(),
            median(&b),
        );
        assert!(p > ALPHA, "{one:?} and {other:?} differ: p = {p:e}");
        assert!(
            seen < SEEN_PART * whole,
            "the test is blind: it sees {seen} of {whole} ms"
        );
    }
}

async fn login(connection: &RawConnection, kind: Kind, n: usize) -> Answer {
    let answer = connection.call(LOGIN, &[], kind.request(n)).await;
    answer.expect("an answer")
}

both! {
    async fn an_unknown_user_answers_like_a_wrong_password(service: Service) {
        let rounds = soak(30, 600);
        let pairs = [
            (Kind::KnownWrong, Kind::UnknownWrong),
            (Kind::KnownTooLong, Kind::UnknownTooLong),
            (Kind::KnownNul, Kind::UnknownNul),
            (Kind::KnownWrong, Kind::KnownTooLong),
            (Kind::KnownForeignDevice, Kind::UnknownForeignDevice),
            (Kind::KnownWrong, Kind::KnownForeignDevice),
            (Kind::KnownUnusable, Kind::UnknownWrong),
            (Kind::KnownImported, Kind::UnknownWrong),
            (Kind::KnownImportedAccent, Kind::UnknownAccent),
            (Kind::KnownSuspended, Kind::UnknownWrong),
        ];
        let samples = Samples::take(&service, &pairs, rounds).await;

        assert_eq!(samples.answers.len(), 1, "{:#?}", samples.answers);
        for (known, unknown) in pairs {
            samples.assert_alike(known, unknown);
        }
    }

    async fn an_unknown_user_answers_alike_while_others_wait_for_a_hash_too(service: Service) {
        let rounds = soak(30, 400);
        let stop = CancellationToken::new();
        let others = others(&service, 2, &stop);
        let pairs = [(Kind::KnownWrong, Kind::UnknownWrong)];
        let samples = Samples::take(&service, &pairs, rounds).await;
        stop.cancel();
        others.join_all().await;

        assert_eq!(samples.answers.len(), 1, "{:#?}", samples.answers);
        samples.assert_alike(Kind::KnownWrong, Kind::UnknownWrong);
    }

    async fn a_full_queue_refuses_both_alike(database: TestDatabase) {
        let options = ["--password-threads", "1", "--password-max-wait", "1ms"];
        let service = Service::start(database, &options).await;
        accounts(&service, 200).await;
        let stop = CancellationToken::new();
        let others = others(&service, 8, &stop);
        let connection = RawConnection::open(service.addr).await;
        for kind in [Kind::KnownWrong, Kind::UnknownWrong, Kind::MalformedEmail] {
            // The other clients keep the lanes of the thread busy, but a login may find one free.
            let refused = async {
                for n in 0.. {
                    let answer = login(&connection, kind, n).await;
                    let status = answer.status().expect("a status");
                    if status.code() == Code::ResourceExhausted {
                        return status;
                    }
                }
                unreachable!("a loop without end")
            };
            let status = tokio::time::timeout(Duration::from_mins(1), refused).await;
            let status = status.expect("the queue is full now and then");
            assert_eq!(reason(&status).1, "OVERLOADED", "{kind:?}");
            assert_eq!(status.message(), "too busy, try again later");
        }
        stop.cancel();
        others.join_all().await;
    }
}

both! {
    async fn another_users_session_answers_like_an_unknown_one(service: Service) {
        let ana = service.sign_up("ana@example.com").await;
        let bob = service.sign_up("bob@example.com").await;
        let authorization = format!("Bearer {}", ana.tokens.access_token);
        let headers = [("authorization", authorization.as_str())];
        let connection = RawConnection::open(service.addr).await;
        let (mut random, mut answers) = (Random::new(), BTreeSet::new());
        let (mut foreign, mut unknown) = (Vec::new(), Vec::new());
        for _ in 0..soak(300, 5000) {
            let never = uuid::Uuid::now_v7().to_string();
            let mut order = [(&bob.id, &mut foreign), (&never, &mut unknown)];
            random.shuffle(&mut order);
            for (id, times) in order {
                let body = framed(&end_session(id).encode_to_vec());
                let started = Instant::now();
                let answer = connection.call(END_SESSION, &headers, body).await.expect("an answer");
                times.push(started.elapsed().as_secs_f64() * 1e3);
                answers.insert(answer.fingerprint());
            }
        }
        assert_eq!(answers.len(), 1, "{answers:#?}");
        let p = p_value(&foreign, &unknown);
        eprintln!(
            "medians {:.3} and {:.3} ms, p = {p:.3}, a difference of {:.3} ms would have been seen",
            median(&foreign), median(&unknown), detectable(&foreign, &unknown),
        );
        assert!(p > ALPHA, "they differ: p = {p:e}");
        service.refresh(&bob.tokens.refresh_token).await.expect("it lives");
    }
}

/// Other clients that log in all the time, each time with another address.
fn others(service: &Service, size: usize, stop: &CancellationToken) -> JoinSet<()> {
    let mut others = JoinSet::new();
    for member in 0..size {
        let (addr, stop) = (service.addr, stop.clone());
        others.spawn(async move {
            let connection = RawConnection::open(addr).await;
            let mut n = 1_000_000 * (member + 1);
            while !stop.is_cancelled() {
                login(&connection, Kind::UnknownWrong, n).await;
                n += 1;
            }
        });
    }
    others
}

/// Two-sided, by the normal approximation, which is good from 20 samples on (Mann and Whitney,
/// 1947). Two times are never equal, so ties need no correction.
fn p_value(a: &[f64], b: &[f64]) -> f64 {
    erfc(z_value(a, b).abs() / std::f64::consts::SQRT_2)
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn z_value(a: &[f64], b: &[f64]) -> f64 {
    let less = a
        .iter()
        .map(|one| b.iter().filter(|other| one < other).count());
    let pairs = (a.len() * b.len()) as f64;
    let variance = pairs * (a.len() + b.len() + 1) as f64 / 12.0;
    (less.sum::<usize>() as f64 - pairs / 2.0) / variance.sqrt()
}

/// The smallest delay of `b` or of `a` that these samples would detect.
fn detectable(a: &[f64], b: &[f64]) -> f64 {
    let alarm = |delay: f64| {
        let late = |times: &[f64]| times.iter().map(|time| time + delay).collect::<Vec<_>>();
        p_value(a, &late(b)) <= ALPHA && p_value(&late(a), b) <= ALPHA
    };
    let (mut blind, mut sees) = (0.0, 10.0 * median(a));
    for _ in 0..40 {
        let middle = f64::midpoint(blind, sees);
        if alarm(middle) {
            sees = middle;
        } else {
            blind = middle;
        }
    }
    sees
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Numerical Recipes' `erfcc`: relative error below 1.2e-7 everywhere.
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let coefficients = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let polynomial = coefficients.iter().fold(0.0, |sum, c| sum * t + c);
    t * (polynomial - x * x).exp()
}

#[test]
fn the_rank_test_sees_a_difference_and_only_a_difference() {
    let mut random = Random::new();
    let mut noise = |shift: f64| {
        let mut sample = || {
            let bits = u32::try_from(random.bits() >> 32).expect("32 bits");
            shift + f64::from(bits) / f64::from(u32::MAX)
        };
        (0..40).map(|_| sample()).collect::<Vec<_>>()
    };
    let (a, b, late) = (noise(0.0), noise(0.0), noise(0.6));
    assert!(p_value(&a, &b) > ALPHA);
    assert!(p_value(&a, &late) < ALPHA);
    let seen = detectable(&a, &b);
    assert!(seen > 0.05 && seen < 0.6, "{seen}");
    // Two-sided, 1.96 standard deviations.
    assert!((erfc(1.959_964 / std::f64::consts::SQRT_2) - 0.05).abs() < 1e-6);
}
