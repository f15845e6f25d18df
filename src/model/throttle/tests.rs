use proptest::prelude::*;

use super::*;
use crate::model::DataKeys;

const NOW: Timestamp = Timestamp::from_micros(1_764_024_172_000_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const MICROSECOND: Duration = Duration::from_micros(1);
const DEFAULTS: ThrottleLimits = ThrottleLimits {
    free_per_device: 10,
    free_per_account: 20,
    free_per_network: 50,
    registrations_per_network: 50,
    daily_per_account: 100,
    first_wait: SECOND,
    longest_wait: Duration::from_mins(15),
    fade: Duration::from_mins(30),
    network_fade: Duration::from_secs(30),
};
const LIMITS: CounterLimits = CounterLimits {
    free: 5,
    window: Some(Window {
        most: 100,
        length: DAY,
    }),
    first_wait: SECOND,
    longest_wait: Duration::from_mins(15),
    fade: Duration::from_mins(30),
};

fn count(counter: Counter, now: Timestamp) -> Raise {
    counter.count(&LIMITS, now).expect("it does not hold back")
}

fn after(failures: u32) -> Counter {
    (0..failures).fold(Counter::NEW, |counter, _| count(counter, NOW).after)
}

fn wait(counter: Counter, now: Timestamp) -> Option<Duration> {
    counter
        .count(&LIMITS, now)
        .err()
        .map(|until| until.since(now))
}

/// Whatever a broken clock has written.
fn any_counter() -> impl Strategy<Value = Counter> {
    let near = |range: i64| {
        prop_oneof![
            any::<i64>(),
            (-range..range).prop_map(|by| NOW.as_micros() + by),
        ]
    };
    let [free_from, failed_at, window_ends_at] =
        [100_000_000_000, 2_000_000_000, 200_000_000_000].map(near);
    (free_from, failed_at, window_ends_at, 0..200_i64).prop_map(
        |(free_from, failed_at, window_ends_at, window_failures)| Counter {
            free_from: Timestamp::from_micros(free_from),
            failed_at: Timestamp::from_micros(failed_at),
            window_failures,
            window_ends_at: Timestamp::from_micros(window_ends_at),
        },
    )
}

#[test]
fn each_failure_beyond_the_free_ones_doubles_the_wait() {
    assert_eq!(wait(after(4), NOW), None);
    let (mut counter, mut now) = (after(5), NOW);
    for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900] {
        let wait = wait(counter, now).expect("a wait");
        assert_eq!(wait.as_secs(), expected);
        now = now + wait;
        counter = count(counter, now).after;
    }
}

#[test]
fn failures_are_forgotten_one_after_the_other() {
    let fade = LIMITS.fade;
    for faded in 1..=5 {
        let now = NOW + fade * faded;
        let counter = (1..faded).fold(after(5), |counter, _| count(counter, now).after);
        assert_eq!(wait(counter, now), None, "{faded}");
        assert_eq!(
            wait(count(counter, now).after, now),
            Some(SECOND),
            "{faded}"
        );
    }
    assert_eq!(after(5).failures(&LIMITS, NOW, NOW + fade * 5), 0);
}

#[test]
fn a_flood_is_not_remembered_for_ever() {
    let (mut counter, mut now) = (Counter::NEW, NOW);
    let limits = CounterLimits {
        window: None,
        ..LIMITS
    };
    for _ in 0..10_000 {
        match counter.count(&limits, now) {
            Ok(raise) => counter = raise.after,
            Err(until) => now = until,
        }
    }
    // Ten doublings from 1 s to 15 min.
    assert!(counter.free_from <= now + LIMITS.fade * (5 + 10));
}

#[test]
fn an_account_has_a_daily_limit() {
    let limits = CounterLimits {
        window: Some(Window {
            most: 3,
            length: DAY,
        }),
        ..LIMITS
    };
    let count = |counter: Counter, now| counter.count(&limits, now);
    let (first, window_ends_at) = (count(Counter::NEW, NOW).unwrap(), NOW + DAY);
    let second = count(first.after, NOW + MINUTE).unwrap();
    let third = count(second.after, NOW + MINUTE * 2).unwrap();
    assert_eq!(count(third.after, NOW + MINUTE * 3), Err(window_ends_at));
    let back = third.after.take_back(&second, NOW + MINUTE * 3);
    assert!(
        count(back, NOW + MINUTE * 3).is_ok(),
        "a success is no failure of the day"
    );
    assert_eq!(
        count(third.after, window_ends_at)
            .unwrap()
            .after
            .window_failures,
        1
    );
    let ahead = Counter {
        window_ends_at: window_ends_at + DAY,
        ..third.after
    };
    assert!(
        count(ahead, NOW + MINUTE * 3).is_ok(),
        "no day is longer than a day"
    );
}

#[test]
fn a_clock_that_is_a_little_ahead_does_not_empty_a_full_counter() {
    let mut full = after(5);
    let mut now = NOW;
    for _ in 0..20 {
        now = now + wait(full, now).unwrap_or_default();
        full = count(full, now).after;
    }
    let behind = now - SECOND * 20;
    assert_eq!(full.failures(&LIMITS, behind, behind), LIMITS.most());
    for behind in [MICROSECOND, SECOND * 20, CLOCK_SKEW] {
        assert_eq!(wait(full, now - behind), Some(LIMITS.longest_wait));
    }
    let far_behind = now - DAY;
    assert_eq!(full.failures(&LIMITS, far_behind, far_behind), 0);
    assert_eq!(wait(full, far_behind), None);
}

#[test]
fn a_clock_that_is_a_little_ahead_does_not_begin_a_day_anew() {
    let spent = Counter {
        window_failures: 100,
        window_ends_at: NOW + DAY,
        ..Counter::NEW
    };
    for behind in [MICROSECOND, CLOCK_SKEW] {
        assert_eq!(wait(spent, NOW - behind), Some(DAY));
        let nearly = Counter {
            window_failures: 99,
            ..spent
        };
        assert_eq!(count(nearly, NOW - behind).after.window_failures, 100);
    }
    assert_eq!(wait(spent, NOW - CLOCK_SKEW - MICROSECOND), None);
}

#[test]
fn a_clock_that_is_a_little_behind_does_not_shorten_a_wait() {
    let free = CounterLimits { free: 6, ..LIMITS };
    let sixth = after(5).count(&free, NOW - SECOND).unwrap().after;
    // It is the last failure.
    assert_eq!(wait(sixth, NOW), Some(SECOND * 2 + MICROSECOND));
    let ahead = Counter {
        failed_at: NOW + DAY,
        ..after(5)
    };
    assert_eq!(count(ahead, NOW).after.failed_at, NOW);
}

#[test]
fn a_success_after_a_wait_leaves_no_wait_behind() {
    let full = after(5);
    let now = NOW + SECOND;
    let raise = count(full, now);
    assert_eq!(raise.after.take_back(&raise, now), full.at(&LIMITS, now));
    assert_eq!(wait(raise.after.take_back(&raise, now), now), None);
}

#[test]
fn a_known_device_and_a_signed_in_user_have_a_counter_of_their_own_only() {
    let keys = DataKeys::for_test(["a"]);
    let (user_id, session) = (UserId::new(NOW), SessionId::new(NOW));
    let login = crate::model::DeviceLogin {
        user_id,
        password_changed_at: NOW,
    };
    let token = DeviceToken::generate(keys.current(), login, NOW).unwrap();
    let known = Claimant::KnownDevice(user_id, &token).counters();
    assert_eq!(known, [CounterId::Device(user_id, &token)]);
    let signed_in = Claimant::SignedIn(session).counters();
    assert_eq!(signed_in, [CounterId::Session(session)]);
    let renewed = token.renew(keys.current(), login, NOW + DAY * 2);
    let key = |id: CounterId<'_>| id.key(keys.current());
    assert_eq!(key(CounterId::Device(user_id, &renewed)), key(known[0]));
}

#[test]
fn another_login_counts_for_the_account_and_its_networks() {
    let kinds = |email, address: &str| {
        let address = ClientAddress::parse(address);
        let counters = Claimant::Unknown { email, address }.counters();
        let free = counters.iter().map(|id| id.limits(&DEFAULTS).free);
        free.collect::<Vec<_>>()
    };
    let ana = Some("ana@example.com");
    assert_eq!(kinds(ana, "192.0.2.1"), [20, 50]);
    assert_eq!(kinds(ana, "2001:db8::1"), [20, 50, 500]);
    assert_eq!(kinds(ana, ""), [20]);
    assert_eq!(kinds(None, "192.0.2.1"), [50]);
    assert_eq!(kinds(None, ""), [0; 0]);
    let site = registration_counters(ClientAddress::parse("2001:db8::1"));
    let free: Vec<_> = site.iter().map(|id| id.limits(&DEFAULTS).free).collect();
    assert_eq!(free, [50, 500]);
}

#[test]
fn each_counter_has_its_own_key() {
    let keys = DataKeys::for_test(["a", "b"]);
    let bytes = *b"192.0.2.192.0.2.";
    let address = |text| ClientAddress::parse(text).unwrap();
    let networks = ["32.1.13.184", "2001:db8::1"].map(address).into_iter();
    let networks: Vec<_> = networks.flat_map(ClientAddress::networks).collect();
    let mut ids = vec![
        CounterId::Account("ana@example.com"),
        CounterId::Account("ben@example.com"),
        CounterId::Session(SessionId::from_bytes(bytes)),
    ];
    ids.extend(networks.iter().copied().map(CounterId::Network));
    ids.extend(networks.iter().copied().map(CounterId::Registrations));
    let mut found: Vec<_> = keys
        .all()
        .flat_map(|key| ids.iter().map(|id| id.key(key)))
        .collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 2 * 9);
}

proptest! {
    #[test]
    fn no_wait_is_longer_than_configured_and_it_ends(counter in any_counter()) {
        let ends = |limits: &CounterLimits, longest, all_waits| {
            let mut now = NOW;
            while let Err(until) = counter.count(limits, now) {
                prop_assert!(now < until && until.since(now) <= longest);
                now = until;
            }
            prop_assert!(now.since(NOW) <= all_waits);
            Ok(())
        };
        let wait = LIMITS.longest_wait;
        ends(&CounterLimits { window: None, ..LIMITS }, wait, wait + CLOCK_SKEW)?;
        // During a wait, a day that ended too late to be credible can come near enough.
        ends(&LIMITS, DAY, wait + DAY + CLOCK_SKEW * 2)?;
    }

    #[test]
    fn a_further_failure_never_shortens_a_wait(counter in any_counter(), later in 0..10_000_u64) {
        let limits = CounterLimits { window: None, ..LIMITS };
        if let Ok(raise) = counter.count(&limits, NOW) {
            let later = NOW + Duration::from_secs(later);
            let failures = |counter: Counter| counter.failures(&limits, later, later);
            prop_assert!(failures(raise.after) >= failures(raise.before));
            prop_assert!(raise.after.free_from <= limits.latest(NOW));
            let until = raise.after.count(&limits, NOW).err().unwrap_or(NOW);
            prop_assert!(until.since(NOW) >= limits.wait(raise.after.failures(&limits, NOW, NOW)).unwrap_or_default());
        }
    }

    #[test]
    fn everything_is_forgotten_in_the_end(counter in any_counter()) {
        if let Ok(raise) = counter.count(&LIMITS, NOW) {
            let end = NOW + LIMITS.fade * LIMITS.most() + DAY;
            prop_assert_eq!(raise.after.failures(&LIMITS, end, end), 0);
            prop_assert!(raise.after.count(&LIMITS, end).is_ok());
            let counted = raise.after.count(&LIMITS, end).unwrap().after;
            let fresh = Counter::NEW.count(&LIMITS, end).unwrap().after;
            prop_assert_eq!(counted, fresh);
        }
    }

    /// Of attempts that overlap, the successes leave nothing: the rest counts as if it were alone.
    #[test]
    fn the_order_of_counts_and_successes_is_irrelevant(
        succeed in prop::collection::vec(any::<bool>(), 1..4),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        failures in 0..2_u32,
    ) {
        // All of them are free.
        let base = after(failures);
        let (mut counter, mut raises, mut open) = (base, Vec::new(), Vec::new());
        let mut pending = succeed.clone();
        for index in order {
            let which = index.index(pending.len() + open.len() + 1);
            if which < pending.len() {
                let raise = count(counter, NOW);
                counter = raise.after;
                if pending.remove(which) { open.push(raise) } else { raises.push(raise) }
            } else if which < pending.len() + open.len() {
                let raise = open.remove(which - pending.len());
                counter = counter.take_back(&raise, NOW);
            }
        }
        for raise in open.drain(..).rev() {
            counter = counter.take_back(&raise, NOW);
        }
        let alone = (0..raises.len()).fold(base, |counter, _| count(counter, NOW).after);
        prop_assert_eq!(counter.failures(&LIMITS, NOW, NOW), alone.failures(&LIMITS, NOW, NOW));
        prop_assert_eq!(wait(counter, NOW), wait(alone, NOW));
        if !raises.is_empty() {
            prop_assert_eq!(counter.window_failures, alone.window_failures);
        }
    }

    /// At different times a failure is forgotten earlier at most by the time that the successes
    /// before it took, and never later.
    #[test]
    fn a_success_takes_back_only_its_own_count(
        attempts in prop::collection::vec((0..60_u64, any::<bool>()), 1..5),
    ) {
        let (mut counter, mut alone, mut now) = (Counter::NEW, Counter::NEW, NOW);
        let mut successes = Vec::new();
        for (pause, succeeds) in attempts {
            now = now + Duration::from_secs(pause);
            let raise = count(counter, now);
            counter = raise.after;
            if succeeds {
                successes.push(raise);
            } else {
                alone = count(alone, now).after;
            }
        }
        for raise in successes {
            counter = counter.take_back(&raise, now);
        }
        let of_rest = |counter: Counter| counter.free_from.max(now);
        prop_assert!(of_rest(counter) <= of_rest(alone));
        prop_assert!(of_rest(alone).since(of_rest(counter)) <= now.since(NOW));
        prop_assert_eq!(counter.window_failures, alone.window_failures);
    }

    /// A guesser who waits until the counter is deleted gets no more guesses in a day.
    #[test]
    fn housekeeping_does_not_lift_the_daily_limit(
        bursts in prop::collection::vec(1..120_u32, 1..60),
        fade in prop::sample::select(vec![MICROSECOND, SECOND, MINUTE, MINUTE * 30]),
    ) {
        let limits = ThrottleLimits { fade, ..DEFAULTS };
        let account = CounterId::Account("ana@example.com").limits(&limits);
        let (mut now, mut guesses) = (NOW, 0_u64);
        for burst in bursts {
            let mut counter = Counter::NEW;
            for _ in 0..burst {
                match counter.count(&account, now) {
                    Ok(raise) => (counter, guesses) = (raise.after, guesses + 1),
                    Err(until) => now = until,
                }
            }
            now = forgotten_at(&counter, &limits, now);
        }
        let days = now.since(NOW).as_secs() / DAY.as_secs() + 1;
        prop_assert!(guesses <= 100 * (days + 1), "{guesses} in {days} days");
    }
}

/// The earliest time at which housekeeping deletes the counter.
fn forgotten_at(counter: &Counter, limits: &ThrottleLimits, now: Timestamp) -> Timestamp {
    let Forgotten {
        free,
        day_ends_at,
        day_failure,
        ..
    } = limits.forgotten(NOW);
    let failures = u32::try_from(counter.window_failures).unwrap();
    let day = counter.window_ends_at + day_failure * failures - day_ends_at.since(NOW);
    let has_wait = counter.failed_at + free < counter.free_from;
    let wait = has_wait.then(|| counter.failed_at + limits.longest_wait);
    now.max(counter.free_from).max(wait.unwrap_or(now)).max(day)
}
