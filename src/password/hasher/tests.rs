use std::{num::NonZeroUsize, time::Duration};

use futures::future::join_all;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::password::policy::new_password;

const COST: u32 = 5;
const SETTINGS: Settings = Settings {
    cost: COST,
    threads: NonZeroUsize::MIN,
    max_wait: Duration::from_hours(1),
    min_score: 0,
    context_words: Vec::new(),
    blocklist: None,
};

fn hasher() -> Hasher {
    Hasher::start(&SETTINGS, &mut Registry::default()).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

fn request() -> Request {
    Request {
        priority: Priority::Other,
        deadline: soon(),
        began: Began::default(),
    }
}

/// How many hashes of the configured cost and of cost 6 were computed.
fn computed(hasher: &Hasher) -> [u64; 2] {
    [COST, 6].map(|cost| hasher.engine.metrics.computed(cost))
}

async fn hash(hasher: &Hasher, text: &str) -> PasswordHash {
    hasher.hash(&new_password(text), request()).await.unwrap()
}

/// A hash of exactly these bytes, by a system that does not normalise.
fn of_bytes(text: &str) -> PasswordHash {
    PasswordHash::import(&bcrypt::hash(text, COST).unwrap()).unwrap()
}

async fn verify<'p>(
    hasher: &Hasher,
    password: &'p Password,
    hash: Option<&PasswordHash>,
) -> Option<Verified<'p>> {
    hasher.verify(password, hash, request()).await.unwrap()
}

async fn verifies(hasher: &Hasher, text: &str, hash: Option<&PasswordHash>) -> bool {
    verify(hasher, &Password::of(text), hash).await.is_some()
}

#[tokio::test]
async fn a_hash_verifies_its_password_in_either_normal_form() {
    let hasher = hasher();
    let hash = hash(&hasher, "p\u{e4}ssw\u{f6}rd").await;
    assert!(verifies(&hasher, "pa\u{308}sswo\u{308}rd", Some(&hash)).await);
    assert!(!verifies(&hasher, "passw\u{f6}rd", Some(&hash)).await);
}

#[tokio::test]
async fn one_password_hashes_to_a_new_salt_each_time() {
    let hasher = hasher();
    let one = hash(&hasher, "hunter2hunter2").await;
    let other = hash(&hasher, "hunter2hunter2").await;
    assert_ne!(one.as_str(), other.as_str());
    assert!(one.as_str().starts_with("$2b$05$"));
}

#[tokio::test]
async fn an_unknown_user_pays_one_hash_of_the_configured_cost() {
    let hasher = hasher();
    assert!(!verifies(&hasher, "hunter2", None).await);
    assert_eq!(computed(&hasher), [1, 0]);
}

#[test]
fn a_comparison_has_as_many_rounds_as_one_for_an_unknown_user() {
    for configured in 4..=16 {
        let settings = Settings {
            cost: configured,
            ..SETTINGS
        };
        let hasher = Hasher::start(&settings, &mut Registry::default()).unwrap();
        let rounds = |hash: &PasswordHash| hasher.comparison(Key::new(b"x"), hash).rounds();
        for cost in COSTS {
            let stored = PasswordHash::new(cost, [0; 16], Digest::default());
            let expected = 1 << cost.max(configured);
            assert_eq!(rounds(&stored), expected, "{cost} of {configured}");
        }
        assert_eq!(rounds(&hasher.dummy), 1 << configured);
    }
}

#[tokio::test]
async fn what_cannot_match_pays_one_hash_and_is_wrong() {
    let hasher = hasher();
    let hash = hash(&hasher, &"x".repeat(72)).await;
    // The hash of the empty password, which the policy refuses.
    let nothing = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";
    let nothing = PasswordHash::parse(nothing).unwrap();
    let mut expected = computed(&hasher);
    for text in ["x".repeat(73).as_str(), "nul\0", ""] {
        for (hash, which) in [(Some(&hash), 0), (Some(&nothing), 1), (None, 0)] {
            assert!(!verifies(&hasher, text, hash).await);
            expected[which] += 1;
            assert_eq!(computed(&hasher), expected);
        }
    }
}

#[tokio::test]
async fn a_verified_password_is_hashed_again_at_the_new_cost() {
    let (hasher, password) = (hasher(), Password::of("a"));
    let old = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
    let old = PasswordHash::parse(old).unwrap();
    let verified = verify(&hasher, &password, Some(&old)).await.unwrap();
    assert!(verified.needs_upgrade());
    let new = hasher.rehash(verified, soon()).await.unwrap();
    assert!(new.as_str().starts_with("$2b$05$"));
    let verified = verify(&hasher, &password, Some(&new)).await.unwrap();
    assert!(!verified.needs_upgrade());
}

#[tokio::test]
async fn a_hash_of_the_decomposed_form_matches_and_needs_an_upgrade() {
    let hasher = hasher();
    let nfd = of_bytes("pa\u{308}ss");
    for text in ["p\u{e4}ss", "pa\u{308}ss"] {
        let password = Password::of(text);
        let verified = verify(&hasher, &password, Some(&nfd)).await.unwrap();
        assert!(verified.needs_upgrade());
        let new = hasher.rehash(verified, soon()).await.unwrap();
        assert!(
            bcrypt::verify("p\u{e4}ss", new.as_str()).unwrap(),
            "it is of the NFC form"
        );
        let verified = verify(&hasher, &password, Some(&new)).await.unwrap();
        assert!(!verified.needs_upgrade());
    }
    assert!(!verifies(&hasher, "pass", Some(&nfd)).await);
}

#[tokio::test]
async fn a_second_comparison_depends_on_the_wrong_password_alone() {
    let hasher = hasher();
    let hash = hash(&hasher, "hunter2hunter2").await;
    let just_too_long = "x".repeat(70) + "\u{e4}";
    let cases = [
        ("p\u{e4}ss", 2),
        ("pa\u{308}ss", 2),
        ("pass", 1),
        (&just_too_long, 1),
    ];
    for (text, comparisons) in cases {
        for hash in [Some(&hash), None] {
            let [before, _] = computed(&hasher);
            assert!(!verifies(&hasher, text, hash).await);
            assert_eq!(computed(&hasher)[0], before + comparisons, "{text}");
        }
    }
}

#[tokio::test]
async fn a_second_comparison_is_not_refused_when_the_queue_has_become_full() {
    let hasher = hasher();
    let password = Password::of("p\u{e4}ss");
    // There is no time to wait for a lane, and the first comparison finds a free one.
    let late = Request {
        deadline: Instant::now(),
        ..request()
    };
    let others = (0..20 * lanes().get()).map(|_| hash(&hasher, "hunter2hunter2"));
    let (verified, _) = tokio::join!(hasher.verify(&password, None, late), join_all(others));
    assert!(verified.unwrap().is_none());
}

#[test]
fn two_comparisons_need_the_rounds_of_both() {
    let hasher = hasher();
    let [low, high, highest] =
        [4, 6, 31].map(|cost| PasswordHash::new(cost, [0; 16], Digest::default()));
    for (text, comparisons) in [("pass", 1), ("p\u{e4}ss", 2), ("pa\u{308}ss", 2)] {
        let rounds = |hash| hasher.most_rounds(&Password::of(text), hash);
        assert_eq!(rounds(None), comparisons << COST, "{text}");
        assert_eq!(rounds(Some(&low)), comparisons << COST);
        assert_eq!(rounds(Some(&high)), comparisons << 6);
    }
    let most = hasher.most_rounds(&Password::of("p\u{e4}ss"), Some(&highest));
    assert_eq!(most, u32::MAX);
}

#[tokio::test]
async fn a_right_password_is_compared_once() {
    let hasher = hasher();
    let hash = hash(&hasher, "p\u{e4}ssw\u{f6}rd").await;
    assert!(verifies(&hasher, "p\u{e4}ssw\u{f6}rd", Some(&hash)).await);
    assert_eq!(computed(&hasher), [2, 0], "one of them made the hash");
}

#[tokio::test]
async fn a_decomposed_form_that_another_system_has_cut_matches_nothing() {
    let hasher = hasher();
    let text = "x".repeat(69) + "a\u{308}e";
    assert_eq!(text.len(), 73);
    let cut = of_bytes(&text);
    assert!(
        bcrypt::verify(&text, cut.as_str()).unwrap(),
        "the other system accepts it"
    );
    assert!(!verifies(&hasher, &text, Some(&cut)).await);
}

#[test]
fn an_unknown_cost_does_not_start() {
    for cost in [3, 32] {
        let settings = Settings { cost, ..SETTINGS };
        let unknown = Hasher::start(&settings, &mut Registry::default());
        assert!(matches!(unknown.err(), Some(StartError::Cost(c)) if c == cost));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_bcrypt_crate_agrees(text in "[ -~à-ÿа-яぁ-ん一-龠😀-😎]{8,18}", other in "[ -~à-ÿ]{8,18}") {
        Runtime::new().unwrap().block_on(async {
            let hasher = hasher();
            let password = Password::of(&text);
            let ours = hash(&hasher, &text).await;
            prop_assert!(bcrypt::verify(password.0.as_bytes(), ours.as_str()).unwrap());

            let theirs = bcrypt::hash(password.0.as_bytes(), COST).unwrap();
            let theirs = PasswordHash::parse(&theirs).unwrap();
            prop_assert!(verifies(&hasher, &text, Some(&theirs)).await);
            prop_assert_eq!(verifies(&hasher, &other, Some(&theirs)).await, text == other);
            Ok(())
        })?;
    }
}
