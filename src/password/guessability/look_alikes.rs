//! Characters that stand for letters, as in `P@$$w0rd`.

/// zxcvbn reads the text anew for each combination of letters that look-alikes can stand for:
/// thousands in a crafted password.
const MAX_COMBINATIONS: usize = 4;

/// The letters for which zxcvbn takes other characters.
const LOOK_ALIKES: [(char, &str); 12] = [
    ('a', "4@"),
    ('b', "8"),
    ('c', "({[<"),
    ('e', "3"),
    ('g', "69"),
    ('i', "1!|"),
    ('l', "1|7"),
    ('o', "0"),
    ('s', "$5"),
    ('t', "+7"),
    ('x', "%"),
    ('z', "2"),
];

/// Letters of other alphabets that look like Latin ones.
const LATIN: [(char, char); 16] = [
    ('а', 'a'),
    ('е', 'e'),
    ('о', 'o'),
    ('р', 'p'),
    ('с', 'c'),
    ('у', 'y'),
    ('х', 'x'),
    ('і', 'i'),
    ('ѕ', 's'),
    ('ј', 'j'),
    ('α', 'a'),
    ('ο', 'o'),
    ('ρ', 'p'),
    ('ν', 'v'),
    ('ι', 'i'),
    ('ı', 'i'),
];

/// With Latin letters for the Greek and Cyrillic ones that look like them, if some are Latin.
pub(super) fn latin(lower: String) -> String {
    if lower.is_ascii() || !lower.contains(|c: char| c.is_ascii_alphabetic()) {
        return lower;
    }
    let latin = |c| LATIN.iter().find(|(other, _)| *other == c);
    let letters = lower.chars();
    letters
        .map(|c| latin(c).map_or(c, |(_, latin)| *latin))
        .collect()
}

/// The letter that a digit or symbol stands for.
pub(super) fn letter(c: char) -> Option<char> {
    let found = LOOK_ALIKES.iter().find(|(_, others)| others.contains(c));
    found.map(|(letter, _)| *letter)
}

/// With letters for symbols if zxcvbn would try too many combinations. The digits that are left
/// have 16 combinations at most.
pub(super) fn few_look_alikes(text: &str) -> String {
    if combinations(text) <= MAX_COMBINATIONS {
        return text.to_owned();
    }
    let symbol = |c: char| letter(c).filter(|_| !c.is_ascii_digit());
    text.chars().map(|c| symbol(c).unwrap_or(c)).collect()
}

/// A bound of the combinations that zxcvbn tries: the choices for each letter, and twice as
/// many for a character that two letters share.
pub(super) fn combinations(text: &str) -> usize {
    let is_present = |c: &char| text.contains(*c);
    let choices = LOOK_ALIKES.map(|(_, others)| others.chars().filter(is_present).count().max(1));
    let shared = ['1', '|', '7'].iter().filter(|c| is_present(c)).count();
    choices.into_iter().product::<usize>() << shared
}
