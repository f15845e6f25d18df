use std::num::NonZeroUsize;

use futures::{FutureExt as _, StreamExt as _, poll, stream::FuturesUnordered};
use proptest::prelude::*;

use super::*;
use crate::{model::UserId, password::Began};

const EMAIL: &str = "rosalind.elsie84@acme.com";

fn verdict(min_score: u8, text: &str, email: &str) -> Result<(), Weakness> {
    let context_words = vec!["realchat".to_owned()];
    let rules = Rules {
        min_score,
        context_words,
    };
    rules.verdict(Password::of(text), email).map(|_| ())
}

fn check(text: &str) -> Result<(), Weakness> {
    verdict(2, text, EMAIL)
}

#[test]
fn the_policy_counts_characters_below_and_bytes_above() {
    let kanji = "漢字仮名交文学".repeat(3) + "漢字仮";
    let table = [
        ("vK3#qT9", Err(Weakness::TooShort)),
        ("vK3#qT9z", Ok(())),
        // 8 characters, but 7 once the accent is composed
        ("vK3#qTe\u{301}", Err(Weakness::TooShort)),
        (&"vK3#qT9z".repeat(9), Ok(())),
        (&("vK3#qT9z".repeat(9) + "x"), Err(Weakness::TooLong)),
        // 24 characters of 3 bytes: 72 bytes; and one byte more
        (&kanji, Ok(())),
        (&(kanji.clone() + "x"), Err(Weakness::TooLong)),
    ];
    for (text, expected) in table {
        assert_eq!(check(text), expected, "{text:?}");
    }
}

#[test]
fn characters_that_keyboards_do_not_write_are_refused() {
    for text in [
        "vK3#q\0T9z",
        "lake tulip harbour\n",
        "lake tulip harbour\r\n",
        "lake\ttulip mist",
    ] {
        assert_eq!(check(text), Err(Weakness::Control), "{text:?}");
    }
    for text in [
        "lake\u{200B} tulip harbour",
        "\u{FEFF}lake tulip harbour",
        "lake tulip\u{2028}mist",
    ] {
        assert_eq!(check(text), Err(Weakness::Character), "{text:?}");
    }
    for text in [
        "lake\u{A0}tulip\u{3000}harbour",
        "ｖＫ３＃ｑＴ９ｚ",
        "😀🤗🫠🐙🪁🦑🌵🧲",
        "❤\u{FE0F}👩\u{200D}💻 lake tulip",
    ] {
        assert_eq!(check(text), Ok(()), "{text:?}");
    }
}

#[test]
fn a_minimum_score_of_zero_turns_guessing_off() {
    assert!(verdict(0, "password", "a@b.c").is_ok());
}

/// A policy with one thread.
fn start(max_wait: Duration) -> Policy {
    let settings = Settings {
        cost: 4,
        threads: NonZeroUsize::MIN,
        max_wait,
        min_score: 2,
        context_words: Vec::new(),
        blocklist: None,
    };
    Policy::start(&settings).unwrap()
}

async fn check_as(
    policy: Policy,
    priority: Priority,
    wait: Duration,
) -> Result<Result<NewPassword, Weakness>, PolicyError> {
    let request = Request {
        priority,
        deadline: Instant::now() + wait,
        began: Began::default(),
    };
    let password = Password::of("lake tulip harbour");
    policy.check(password, EMAIL, &request).await
}

#[tokio::test]
async fn a_known_device_waits_for_at_most_one_of_the_others() {
    let policy = start(Duration::from_hours(1));
    let only_thread = policy.free.try_acquire().unwrap();
    let checks = FuturesUnordered::new();
    let known = Priority::KnownDevice(UserId::from_bytes([1; 16]));
    let priorities = [Priority::Other, Priority::Other, known];
    for (n, priority) in priorities.into_iter().enumerate() {
        let check = check_as(policy.clone(), priority, Duration::from_hours(1));
        let mut check = Box::pin(check.map(move |checked| (n, checked.is_ok())));
        assert!(poll!(&mut check).is_pending(), "the thread is busy");
        checks.push(check);
    }
    drop(only_thread);
    let order: Vec<_> = checks.collect().await;
    assert_eq!(order, [(0, true), (2, true), (1, true)]);
}

#[tokio::test]
async fn a_password_that_cannot_be_checked_in_time_is_refused_as_overloaded() {
    let (soon, late) = (Duration::from_millis(1), Duration::from_hours(1));
    let check = |policy, wait| check_as(policy, Priority::Other, wait);
    for (max_wait, wait) in [(soon, late), (late, soon)] {
        let policy = start(max_wait);
        let only_thread = policy.free.try_acquire().unwrap();
        let checked = check(policy.clone(), wait).await;
        assert!(
            matches!(checked, Err(PolicyError::Overloaded { retry_after }) if retry_after == max_wait)
        );
        drop(only_thread);
    }
    // A free thread is used at once, even if there is no time to wait for one.
    assert!(
        check(start(Duration::ZERO), Duration::ZERO)
            .await
            .unwrap()
            .is_ok()
    );
    assert!(check(start(late), late).await.unwrap().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_text_gets_an_answer_and_what_passes_can_be_hashed(text in ".{0,40}") {
        let rules = Rules { min_score: 2, context_words: Vec::new() };
        if let Ok(new) = rules.verdict(Password::of(&text), "a@example.com") {
            new.key();
        }
    }
}
