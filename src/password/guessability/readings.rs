//! The ways in which a password cracker reads a password.
//!
//! - As typed, also without the digits and punctuation at its ends.
//! - In lower case, without accents, and with Latin letters for those that look like them; also
//!   with each symbol as the digit on its key of a US keyboard, so that `!QAZ1qaz` is one run
//!   twice.
//! - Without punctuation: `Real-Chat-2026`.
//! - With letters in place of the symbols that look like them: `P@$$w0rd`.
//!
//! Each changed reading multiplies the guesses, because the attacker also tries the others.

use std::ops::Range;

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use super::{
    CHECKED_CHARS,
    look_alikes::{few_look_alikes, latin, letter},
};

/// Digits and symbols that a word may begin or end with, such as the `$` in `Chri$`.
const LOOK_ALIKE_ENDS: usize = 2;
/// The ends of a longer text are read as a whole: a word of that length that begins or ends with
/// a digit is rare, and the work grows with the square of the length.
const SHORT: usize = 14;
const MAX_GROUPS: usize = 6;

/// A core and the digits and symbols around it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) core: String,
    pub(super) affixes: Vec<String>,
    /// How many other readings the attacker tries as well.
    pub(super) factor: u64,
}

impl Reading {
    /// `core` is a range of `text`.
    fn new(text: &str, core: Range<usize>, factor: u64) -> Self {
        let ends = [&text[..core.start], &text[core.end..]];
        let ends = ends.into_iter().filter(|end| !end.is_empty());
        Self {
            affixes: ends.map(few_look_alikes).collect(),
            core: few_look_alikes(&text[core]),
            factor,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.core, &self.affixes) == (&other.core, &other.affixes)
    }
}

/// The readings of the beginning of a password, with full-width letters as ASCII.
pub(super) fn of(password: &str) -> Vec<Reading> {
    let wide: Vec<char> = password.nfkc().collect();
    let (unit, repeats) = repeated(&wide);
    let typed: String = unit.iter().take(CHECKED_CHARS).collect();
    let mut readings = if typed.chars().count() <= SHORT {
        splits(&typed, repeats)
    } else {
        vec![without_ends(&typed, repeats)]
    };
    let lower = latin(lower(&typed));
    let keys: String = lower.chars().map(unshifted).collect();
    readings.push(Reading::new(&keys, 0..keys.len(), 4 * repeats));
    readings.push(without_ends(&lower, 4 * repeats));
    let (bare, removed) = without_punctuation(&typed);
    if removed > 0 {
        let factor = 10_u64.saturating_pow(removed).saturating_mul(repeats);
        readings.push(without_ends(&bare, factor));
    }
    let mut letters = without_ends(&typed, 4 * repeats);
    letters.core = letters
        .core
        .chars()
        .map(|c| letter(c).unwrap_or(c))
        .collect();
    readings.push(letters);
    // The first of those with the same text has the fewest guesses.
    let mut distinct: Vec<Reading> = Vec::new();
    for reading in readings {
        if !distinct.iter().any(|other| other.is_same(&reading)) {
            distinct.push(reading);
        }
    }
    distinct
}

/// The unit that a text repeats, perhaps not to the end, and how often. Case does not count.
fn repeated(text: &[char]) -> (&[char], u64) {
    let same = |a: &char, b: &char| a.to_lowercase().eq(b.to_lowercase());
    let is_period = |period: &usize| text[*period..].iter().zip(text).all(|(a, b)| same(a, b));
    match (1..=text.len() / 2).find(is_period) {
        Some(period) => (&text[..period], text.len().div_ceil(period) as u64),
        None => (text, 1),
    }
}

/// The whole text, and the text without its ends, with one of them, and with the first
/// characters of the last one.
fn splits(text: &str, factor: u64) -> Vec<Reading> {
    let word = word(text);
    let last = text[word.end..].char_indices();
    let kept = last.skip(1).take(LOOK_ALIKE_ENDS);
    let kept = kept.map(|(at, _)| word.end + at).chain([text.len()]);
    let cores = kept.flat_map(|end| [0..end, word.start..end]);
    let cores = [0..text.len(), word.clone(), 0..word.end]
        .into_iter()
        .chain(cores);
    let readings = cores.map(|core| Reading::new(text, core, factor));
    readings.collect()
}

fn without_ends(text: &str, factor: u64) -> Reading {
    Reading::new(text, word(text), factor)
}

/// From the first to the last letter; empty without a letter.
fn word(text: &str) -> Range<usize> {
    let start = text.find(char::is_alphabetic).unwrap_or(text.len());
    let end = text.trim_end_matches(|c: char| !c.is_alphabetic()).len();
    start..end.max(start)
}

/// Digits, and what is between them; the last group has all the rest.
pub(super) fn groups(run: &str) -> impl Iterator<Item = &str> {
    let mut rest = run;
    let mut count = 0;
    std::iter::from_fn(move || {
        let is_digit = rest.chars().next()?.is_ascii_digit();
        count += 1;
        let end = rest.find(|c: char| c.is_ascii_digit() != is_digit);
        let end = end.filter(|_| count < MAX_GROUPS).unwrap_or(rest.len());
        let (group, others) = rest.split_at(end);
        rest = others;
        Some(group)
    })
}

/// Without capitals and accents. A sigma at the end of a word is one within it, as in a folded
/// address.
pub(super) fn lower(text: &str) -> String {
    let letters = text.nfkd().filter(|c| !('\u{300}'..='\u{36F}').contains(c));
    let lower = letters.flat_map(char::to_lowercase);
    let lower = lower.map(|c| if c == 'ς' { 'σ' } else { c });
    lower.take(CHECKED_CHARS).collect()
}

fn unshifted(c: char) -> char {
    let shifted = "!@#$%^&*()";
    let digits = "1234567890";
    let key = shifted.find(c).and_then(|at| digits[at..].chars().next());
    key.unwrap_or(c)
}

/// The letters and digits, and the number of different characters that were removed.
fn without_punctuation(text: &str) -> (String, u32) {
    let is_kept = |c: &char| c.is_alphanumeric() || is_combining_mark(*c);
    let mut removed: Vec<char> = text.chars().filter(|c| !is_kept(c)).collect();
    removed.sort_unstable();
    removed.dedup();
    let count = u32::try_from(removed.len()).expect("a text is short");
    (text.chars().filter(is_kept).collect(), count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::password::guessability::look_alikes;

    #[test]
    fn a_repeated_text_is_read_once() {
        let unit = |text: &str| {
            let chars: Vec<char> = text.chars().collect();
            let (unit, repeats) = repeated(&chars);
            (unit.iter().collect::<String>(), repeats)
        };
        assert_eq!(unit("aaaa"), ("a".to_owned(), 4));
        assert_eq!(unit("Lake!lake!lAke"), ("Lake!".to_owned(), 3));
        assert_eq!(unit("abcab"), ("abcab".to_owned(), 1));
        assert_eq!(unit("abcabca"), ("abc".to_owned(), 3));
        assert_eq!(unit("lake"), ("lake".to_owned(), 1));
    }

    #[test]
    fn ends_are_split_into_digits_and_the_rest() {
        let of = |run| groups(run).collect::<Vec<_>>();
        assert_eq!(of("2026!"), ["2026", "!"]);
        assert_eq!(of("!@#123"), ["!@#", "123"]);
        assert_eq!(of("1!1!1!1!1!"), ["1", "!", "1", "!", "1", "!1!1!"]);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn readings_of_a_word_with_a_year() {
        let cores = |text| {
            let readings = of(text);
            readings
                .into_iter()
                .map(|reading| reading.core)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            cores("Chri$26!"),
            [
                "Chri$26!", "Chri", "Chri$", "Chri$2", "chri4261", "chri", "Chri"
            ]
        );
        assert_eq!(
            cores("26Chris!"),
            [
                "26Chris!", "Chris", "26Chris", "Chris!", "26chris1", "chris", "Chris"
            ]
        );
        assert_eq!(cores("lake tulip"), ["lake tulip", "laketulip"]);
        assert_eq!(cores("Ｌａｋｅ"), ["Lake", "lake"]);
        assert_eq!(cores("lаkе")[..2], ["lаkе", "lake"]); // two of the letters are Cyrillic
        assert_eq!(cores("2026-11-29!"), ["2026-11-29i", "", "2026-11-291", ""]);
    }

    proptest! {
        /// This bounds the time: zxcvbn's work grows with these three.
        #[test]
        fn the_work_is_bounded_for_every_text(
            text in "(\\PC|[4@8({\\[<3691!|70$5+%2a]){0,72}"
        ) {
            let readings = of(&text);
            prop_assert!(readings.len() <= 12, "{readings:?}");
            let long = readings.iter().filter(|reading| reading.core.chars().count() > SHORT);
            prop_assert!(long.count() <= 5);
            for reading in &readings {
                prop_assert!(reading.core.chars().count() <= CHECKED_CHARS);
                prop_assert!(look_alikes::combinations(&reading.core) <= 16);
                for affix in &reading.affixes {
                    prop_assert!(groups(affix).count() <= MAX_GROUPS);
                }
            }
        }
    }
}
