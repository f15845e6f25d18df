//! Access tokens, refresh tokens and sessions: keys, names and life times.

use std::{path::Path, time::Duration};

use super::{
    Problem,
    args::Args,
    embedded::DataFolder,
    problem::Problems,
    secret::{Secret, SigningSecrets, distinct, signing_secret, signing_secrets},
    value::{duration, text},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Nobody means more, and no sum of times comes near an overflow.
const TEN_YEARS: Duration = Duration::from_hours(10 * 8766);

/// What tokens are made with.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// The keys of access tokens.
    pub secrets: SigningSecrets,
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
    /// How long they last.
    pub lifetimes: Lifetimes,
}

/// How long tokens and sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An access token: whole seconds.
    pub access_token: Duration,
    /// A refresh token, and with it a session that is not refreshed.
    pub refresh_token: Duration,
    /// A session, however often it is refreshed.
    pub session: Duration,
    /// How long the previous refresh token may come back; zero for never.
    pub retry_window: Duration,
}

impl TokenConfig {
    pub(super) fn read(
        args: &Args,
        folder: Option<&mut DataFolder>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let secrets = read_secrets(args, folder, problems);
        let issuer = problems.parse("JWT_ISSUER", args.jwt_issuer.as_deref(), text);
        let audience = problems.parse("JWT_AUDIENCE", args.jwt_audience.as_deref(), text);
        let lifetimes = Lifetimes::read(args, problems);
        Some(Self {
            secrets: secrets?,
            issuer: issuer.unwrap_or_else(|| "realchat-auth".into()),
            audience: audience.unwrap_or_else(|| "realchat".into()),
            lifetimes,
        })
    }
}

impl SigningSecrets {
    /// The keys alone, for `keys jwks`: other variables are not looked at, and nothing is made.
    pub fn load(args: &Args, base: &Path) -> Result<Self, Vec<Problem>> {
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
}

impl Lifetimes {
    fn read(args: &Args, problems: &mut Problems) -> Self {
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
        let lifetimes = Self {
            access_token: access.unwrap_or(HOUR),
            refresh_token: refresh.unwrap_or(DAY),
            session: session.unwrap_or(30 * DAY),
            retry_window: window.unwrap_or(30 * SECOND),
        };
        lifetimes.check(problems);
        lifetimes
    }

    fn check(self, problems: &mut Problems) {
        if self.access_token.subsec_nanos() != 0 {
            problems.add("ACCESS_TOKEN_TTL", "must be whole seconds");
        }
        problems.require(
            self.retry_window < self.refresh_token,
            ["REFRESH_RETRY_WINDOW", "REFRESH_TOKEN_TTL"],
            "(default 30s) must be shorter than REFRESH_TOKEN_TTL (default 24h)",
        );
        problems.require(
            self.refresh_token <= self.session,
            ["REFRESH_TOKEN_TTL", "SESSION_MAX_AGE"],
            "(default 24h) must not be longer than SESSION_MAX_AGE (default 30d)",
        );
    }
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
    let previous = previous.and_then(|secret| secret.parse(problems, signing_secrets));
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
