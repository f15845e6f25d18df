//! Access tokens, refresh tokens and sessions: keys, names and life times.

use std::{path::Path, time::Duration};

use super::{
    Problem,
    args::Args,
    embedded::DataFolder,
    problem::Problems,
    secret::{self, Secret, distinct, signing_secret},
    throttle,
    value::{duration, text},
};
use crate::auth::{Lifetimes, Settings, SigningSecrets};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Nobody means more, and no sum of times comes near an overflow.
const TEN_YEARS: Duration = Duration::from_hours(10 * 8766);

pub(super) fn read(
    args: &Args,
    folder: Option<&mut DataFolder>,
    problems: &mut Problems,
) -> Option<Settings> {
    let secrets = read_secrets(args, folder, problems);
    let issuer = problems.parse("JWT_ISSUER", args.jwt_issuer.as_deref(), text);
    let audience = problems.parse("JWT_AUDIENCE", args.jwt_audience.as_deref(), text);
    let lifetimes = read_lifetimes(args, problems);
    Some(Settings {
        secrets: secrets?,
        issuer: issuer.unwrap_or_else(|| "realchat-auth".into()),
        audience: audience.unwrap_or_else(|| "realchat".into()),
        lifetimes,
        throttle: throttle::read(args, problems),
    })
}

/// The keys alone, for `keys jwks`: other variables are not looked at, and nothing is made.
pub fn signing_secrets(args: &Args, base: &Path) -> Result<SigningSecrets, Vec<Problem>> {
    let mut problems = Problems::default();
    let is_embedded = args.database_url.is_none() && args.database_url_file.is_none();
    let mut folder = is_embedded.then(|| DataFolder::new(base));
    let secrets = read_secrets(args, folder.as_mut(), &mut problems);
    if folder.is_some_and(|folder| !folder.plan().created.is_empty()) {
        problems.add(
            "JWT_SECRET",
            "is not set, and the embedded default has made none yet",
        );
    }
    problems.finish(secrets)
}

fn read_lifetimes(args: &Args, problems: &mut Problems) -> Lifetimes {
    let millisecond = Duration::from_millis(1);
    let mut read = |name, value: &Option<String>, range| {
        problems.parse(name, value.as_deref(), duration(range))
    };
    let access = read(
        "ACCESS_TOKEN_TTL",
        &args.access_token_ttl,
        SECOND..=30 * DAY,
    );
    let refresh = read(
        "REFRESH_TOKEN_TTL",
        &args.refresh_token_ttl,
        millisecond..=TEN_YEARS,
    );
    let session = read(
        "SESSION_MAX_AGE",
        &args.session_max_age,
        millisecond..=TEN_YEARS,
    );
    let window = read(
        "REFRESH_RETRY_WINDOW",
        &args.refresh_retry_window,
        Duration::ZERO..=HOUR,
    );
    let lifetimes = Lifetimes {
        access_token: access.unwrap_or(HOUR),
        refresh_token: refresh.unwrap_or(DAY),
        session: session.unwrap_or(30 * DAY),
        retry_window: window.unwrap_or(30 * SECOND),
    };
    check(lifetimes, problems);
    lifetimes
}

fn check(lifetimes: Lifetimes, problems: &mut Problems) {
    if lifetimes.access_token.subsec_nanos() != 0 {
        problems.add("ACCESS_TOKEN_TTL", "must be whole seconds");
    }
    problems.require(
        lifetimes.retry_window < lifetimes.refresh_token,
        ["REFRESH_RETRY_WINDOW", "REFRESH_TOKEN_TTL"],
        "(default 30s) must be shorter than REFRESH_TOKEN_TTL (default 24h)",
    );
    problems.require(
        lifetimes.refresh_token <= lifetimes.session,
        ["REFRESH_TOKEN_TTL", "SESSION_MAX_AGE"],
        "(default 24h) must not be longer than SESSION_MAX_AGE (default 30d)",
    );
}

fn read_secrets(
    args: &Args,
    folder: Option<&mut DataFolder>,
    problems: &mut Problems,
) -> Option<SigningSecrets> {
    let (value, file) = (args.jwt_secret.as_deref(), args.jwt_secret_file.as_deref());
    let current = match folder {
        _ if value.is_some() || file.is_some() => Secret::read("JWT_SECRET", value, file, problems),
        Some(folder) => folder.signing_secret(problems),
        None => {
            problems.add("JWT_SECRET", "is required when DATABASE_URL is set");
            None
        }
    };
    let (value, file) = (
        args.jwt_next_secret.as_deref(),
        args.jwt_next_secret_file.as_deref(),
    );
    let next = Secret::read("JWT_NEXT_SECRET", value, file, problems);
    let value = args.jwt_previous_secrets.as_deref();
    let file = args.jwt_previous_secrets_file.as_deref();
    let previous = Secret::read("JWT_PREVIOUS_SECRETS", value, file, problems);

    let current = current.and_then(|secret| secret.parse(problems, signing_secret));
    let next = next.and_then(|secret| secret.parse(problems, signing_secret));
    let previous = previous.and_then(|secret| secret.parse(problems, secret::signing_secrets));
    let secrets = SigningSecrets {
        current: current?,
        next,
        previous: previous.unwrap_or_default(),
    };
    distinct(&secrets)
        .map_err(|(name, what)| problems.add(name, what))
        .ok()?;
    Some(secrets)
}
