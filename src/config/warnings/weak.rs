//! Limits and secrets that protect less than the defaults.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::{
    config::{
        Config,
        same_secrets::{database_password, kafka_password},
    },
    grpc::Scope,
    password,
};

/// A gateway accepts an access token until its end, also after a logout.
const LONG_ACCESS_TOKEN: Duration = Duration::from_hours(24);
/// With more guesses the throttle hardly holds anybody back.
const MANY_GUESSES: u32 = 1_000;
const DAY: Duration = Duration::from_hours(24);

pub(super) fn warnings(config: &Config) -> Vec<String> {
    let throttle = &config.auth.throttle;
    let lets_guess_an_account =
        throttle.free_per_account > MANY_GUESSES || throttle.daily_per_account > MANY_GUESSES;
    // After the free failures, a device and a session have one more when one is forgotten, or
    // when the longest wait is over. They have no daily limit.
    let interval = throttle.fade.min(throttle.longest_wait);
    let lets_guess_on_a_device =
        throttle.free_per_device > MANY_GUESSES || interval * MANY_GUESSES < DAY;
    let callers = &config.internal_callers;
    let mut scopes = callers.names().map(|name| callers.scopes_of(name));
    let has_callers = scopes.any(|scopes| scopes.has(Scope::Keys));
    let same = kafka_password(config).is_some_and(|hash| database_password(config) == Some(hash));
    let found = [
        (
            config.auth.lifetimes.access_token > LONG_ACCESS_TOKEN,
            "ACCESS_TOKEN_TTL: LONGER THAN A DAY: a gateway accepts a stolen access token until \
             its end, also after a logout",
        ),
        (
            !has_callers,
            "INTERNAL_TOKENS: NO SERVICE MAY CALL GetSigningKey, so no gateway can verify a \
             token; set it, or INTERNAL_CLIENT_NAMES",
        ),
        (
            config.internal_callers.has_guessable_token(),
            "INTERNAL_TOKENS: EASY TO GUESS: a guessed token gets the signing key; make random ones",
        ),
        (
            config.passwords.min_score == 0,
            "PASSWORD_MIN_SCORE: NO NEW PASSWORD IS TOO EASY TO GUESS for the service",
        ),
        (
            lets_guess_an_account,
            "THROTTLE_FREE_PER_ACCOUNT: MORE THAN 1,000 GUESSES A DAY for an account: look also at \
             THROTTLE_DAILY_PER_ACCOUNT",
        ),
        (
            lets_guess_on_a_device,
            "THROTTLE_FREE_PER_DEVICE: MORE THAN 1,000 GUESSES A DAY on a known device or in a \
             session: look also at THROTTLE_FADE and THROTTLE_LONGEST_WAIT",
        ),
        (
            same,
            "KAFKA_SASL_PASSWORD: is also the password of the database",
        ),
    ];
    let found = found.into_iter().filter(|(holds, _)| *holds);
    let keys = guessable_keys(config);
    found.map(|(_, text)| text.to_owned()).chain(keys).collect()
}

/// Words and patterns in place of random bytes. An attacker with one access token or refresh
/// token can try keys until one fits its signature or tag, without asking the service.
fn guessable_keys(config: &Config) -> impl Iterator<Item = String> + use<> {
    let secrets = &config.auth.secrets;
    let keys = [("JWT_SECRET", &secrets.current)].into_iter();
    let keys = keys.chain(secrets.next.iter().map(|key| ("JWT_NEXT_SECRET", key)));
    let keys = keys.chain(
        secrets
            .previous
            .iter()
            .map(|key| ("JWT_PREVIOUS_SECRETS", key)),
    );
    let data = &config.data_secrets;
    let keys = keys.chain([("DATA_KEY", &data.current)]);
    let keys = keys.chain(data.previous.iter().map(|key| ("DATA_PREVIOUS_KEYS", key)));
    let is_guessable = |key: &[u8]| std::str::from_utf8(key).is_ok_and(password::is_guessable);
    let guessable: Vec<_> = keys
        .filter(|(_, key)| is_guessable(key.expose_secret()))
        .map(|(name, _)| {
            format!("{name}: EASY TO GUESS: make a random key with `auth-service keys generate`")
        })
        .collect();
    guessable.into_iter()
}
