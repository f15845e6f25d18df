use std::{num::NonZeroUsize, path::Path, sync::Arc, thread, time::Duration};

use super::{
    reader::Reader,
    server::{REQUEST_TIMEOUT, WAIT},
    value::{duration, number, unreadable},
    variable::{value, variables},
};
use crate::password::{Blocklist, BlocklistError, Settings};

variables! {
    "Passwords"

    /// bcrypt's cost, 10 to 16; each step doubles the work
    BCRYPT_COST: u32 = value("COST", |text| number(text, 10..=16)).default("12");
    /// Threads that hash passwords, 1 to 1024
    PASSWORD_THREADS: NonZeroUsize = value("COUNT", |text| number(text, THREADS))
        .when_unset("one per core");
    /// Longest wait for a free hash lane, below REQUEST_TIMEOUT
    PASSWORD_MAX_WAIT: Duration = value("DURATION", |text| duration(text, WAIT)).default("2s");
    /// Lowest zxcvbn score of a new password, 0 to 4
    PASSWORD_MIN_SCORE: u8 = value("SCORE", |text| number(text, 0..=4)).default("2");
    /// Have-I-Been-Pwned file of SHA-1 hashes, ordered by hash: no new password may be in it
    PASSWORD_BLOCKLIST_FILE: Blocklist = value("PATH", blocklist).when_unset("none");
}

const THREADS: std::ops::RangeInclusive<NonZeroUsize> =
    NonZeroUsize::MIN..=NonZeroUsize::new(1024).expect("not zero");

pub(super) fn read(reader: &mut Reader<'_>, request_timeout: Duration) -> Settings {
    let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let settings = Settings {
        cost: reader.value(&BCRYPT_COST),
        threads: reader.optional(&PASSWORD_THREADS).unwrap_or_else(cores),
        max_wait: reader.value(&PASSWORD_MAX_WAIT),
        min_score: reader.value(&PASSWORD_MIN_SCORE),
        blocklist: reader.optional(&PASSWORD_BLOCKLIST_FILE).map(Arc::new),
    };
    let defaults = [PASSWORD_MAX_WAIT, REQUEST_TIMEOUT].map(|variable| variable.default_text());
    let what = format!(
        "must be shorter than REQUEST_TIMEOUT (the defaults are {})",
        defaults.join(" and ")
    );
    let holds = settings.max_wait < request_timeout;
    reader.require(holds, &PASSWORD_MAX_WAIT, &REQUEST_TIMEOUT, what);
    settings
}

fn blocklist(path: &str) -> Result<Blocklist, String> {
    Blocklist::open(Path::new(path)).map_err(|error| match error {
        BlocklistError::Io(error) => unreadable(&error),
        malformed => malformed.to_string(),
    })
}
