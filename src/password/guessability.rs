//! How many guesses a new password withstands.
//!
//! zxcvbn finds the pieces of a password: words, names, dates, sequences, runs on a keyboard.
//! It then adds 10,000 guesses for each further piece, because an attacker would not know the
//! number of pieces. Password crackers do know it: they try a word, a year and a punctuation
//! mark first, and by zxcvbn's own score `Summer2026!` is as good as 8 random characters. The
//! estimate here is the product of the guesses of the pieces, and the lowest one of several
//! [`readings`]. zxcvbn's bounds of the scores stay.
//!
//! The work is bounded for every input: zxcvbn sees [`CHECKED_CHARS`] characters at most, and
//! [`readings`] limits the number of texts and how many substitutions of letters each allows.

mod look_alikes;
mod readings;
mod words;

use zxcvbn::zxcvbn;

use self::readings::Reading;
pub(super) use self::words::known_words;

/// The characters that are checked. Random text gets the best score with half as many. The work
/// grows with their square.
const CHECKED_CHARS: usize = 20;

/// The least guesses of each score, as in zxcvbn.
const SCORES: [u64; 5] = [0, 1_000, 1_000_000, 100_000_000, 10_000_000_000];

/// Whether a password has at least this score. `words` are those that an attacker tries first,
/// the most likely one first.
pub(super) fn withstands(password: &str, score: u8, words: &[String]) -> bool {
    let enough = SCORES[usize::from(score)];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    readings::of(password)
        .iter()
        .all(|reading| guesses(reading, &words) >= enough)
}

fn guesses(reading: &Reading, words: &[&str]) -> u64 {
    let affixes = reading.affixes.iter().map(|run| affix_guesses(run));
    affixes
        .fold(reading.factor, u64::saturating_mul)
        .saturating_mul(pieces(&reading.core, words))
}

/// The product of the guesses of the pieces that zxcvbn finds.
fn pieces(text: &str, words: &[&str]) -> u64 {
    let entropy = zxcvbn(text, words);
    let pieces = entropy.sequence().iter().filter_map(|piece| piece.guesses);
    pieces.fold(1, u64::saturating_mul)
}

/// Digits and punctuation around a word: as a whole, or group by group.
fn affix_guesses(run: &str) -> u64 {
    let groups = readings::groups(run).map(|group| pieces(group, &[]));
    pieces(run, &[]).min(groups.fold(1, u64::saturating_mul))
}

#[cfg(test)]
mod tests;
