use std::{num::NonZeroUsize, path::Path, sync::Arc, thread, time::Duration};

use super::{
    reader::Reader,
    server::{REQUEST_TIMEOUT, WAIT},
    value::{duration, each, number, unreadable},
    variable::{value, variables},
};
use crate::{
    model::unicode::has_invisible,
    password::{Blocklist, BlocklistError, Settings},
};

variables! {
    "Passwords"

    /// bcrypt's cost, 10 to 16; each step doubles the work
    BCRYPT_COST: u32 = value("COST", |text| number(text, 10..=16)).default("12");
    /// Threads that hash passwords, 1 to 1024
    PASSWORD_THREADS: NonZeroUsize = value("COUNT", |text| number(text, THREADS))
        .when_unset("one per core");
    /// Longest wait for a free hash lane, below REQUEST_TIMEOUT; unknown devices get three quarters
    /// of it
    PASSWORD_MAX_WAIT: Duration = value("DURATION", |text| duration(text, WAIT)).default("2s");
    /// How hard to guess a new password must be, a score of 0 to 4
    PASSWORD_MIN_SCORE: u8 = value("SCORE", |text| number(text, 0..=4)).default("2");
    /// Words that no new password may be made of, such as the product's name, comma-separated
    PASSWORD_CONTEXT_WORDS: Vec<String> = value("WORDS", context_words).default("realchat");
    /// Have-I-Been-Pwned file of SHA-1 hashes, ordered by hash: no new password may be in it
    PASSWORD_BLOCKLIST_FILE: Blocklist = value("PATH", blocklist).when_unset("none");
}

const THREADS: std::ops::RangeInclusive<NonZeroUsize> =
    NonZeroUsize::MIN..=NonZeroUsize::new(1024).expect("not zero");

const WORD: std::ops::RangeInclusive<usize> = 3..=24;
const MAX_WORDS: usize = 20;

pub(super) fn read(reader: &mut Reader<'_>, request_timeout: Duration) -> Settings {
    let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let settings = Settings {
        cost: reader.value(&BCRYPT_COST),
        threads: reader.optional(&PASSWORD_THREADS).unwrap_or_else(cores),
        max_wait: reader.value(&PASSWORD_MAX_WAIT),
        min_score: reader.value(&PASSWORD_MIN_SCORE),
        context_words: reader.value(&PASSWORD_CONTEXT_WORDS),
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

/// The estimate takes longer with each word, and does not see more characters of a password.
fn context_words(text: &str) -> Result<Vec<String>, String> {
    let words = each(text, |word| {
        let word = word.trim();
        let is_word = WORD.contains(&word.chars().count()) && !has_invisible(word);
        let what = "must have 3 to 24 characters, all of them visible";
        is_word.then(|| word.to_owned()).ok_or_else(|| what.into())
    })?;
    if words.len() > MAX_WORDS {
        return Err(format!("must be at most {MAX_WORDS} words"));
    }
    Ok(words)
}

fn blocklist(path: &str) -> Result<Blocklist, String> {
    Blocklist::open(Path::new(path)).map_err(|error| match error {
        BlocklistError::Io(error) => unreadable(&error),
        malformed => malformed.to_string(),
    })
}
