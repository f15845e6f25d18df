//! The words that an attacker tries first.

use super::JUDGED_CHARS;

/// Words that password rules make people use with a year. zxcvbn knows most of them, but not
/// all as common ones.
const CALENDAR: [&str; 24] = [
    "summer",
    "winter",
    "spring",
    "autumn",
    "fall",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// More would only slow the estimate down.
const MAX_EMAIL_WORDS: usize = 12;
const MIN_CHARS: usize = 3;

/// The e-mail address and its parts, the product's words, and the calendar, the most likely
/// first.
pub(in crate::password) fn known_words(email: &str, product: &[String]) -> Vec<String> {
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let joined: String = local.chars().filter(|c| c.is_alphanumeric()).collect();
    let without_number = joined.trim_end_matches(|c: char| c.is_ascii_digit());
    // `Acme2026!` of somebody at acme.com; a top-level domain is no name.
    let company = domain.rsplit('.').skip(1);
    let parts = local.split(|c: char| !c.is_alphanumeric()).chain(company);
    let parts = [local, &joined, without_number, email]
        .into_iter()
        .chain(parts);
    let is_word = |word: &&str| word.chars().count() >= MIN_CHARS;
    let of_email = parts.filter(is_word).take(MAX_EMAIL_WORDS);
    let of_email = of_email.map(|word| word.chars().take(JUDGED_CHARS).collect());
    let bare = |word: &String| word.chars().filter(|c| c.is_alphanumeric()).collect();
    of_email
        .chain(product.iter().flat_map(|word| [word.clone(), bare(word)]))
        .chain(CALENDAR.map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_as_a_whole_and_in_parts() {
        let words = known_words("ana.silva84@mail.acme.com", &["Real Chat".to_owned()]);
        let expected = [
            "ana.silva84",
            "anasilva84",
            "anasilva",
            "ana.silva84@mail.acm",
            "ana",
            "silva84",
            "acme",
            "mail",
            "Real Chat",
            "RealChat",
            "summer",
        ];
        assert_eq!(words[..expected.len()], expected);
        assert_eq!(known_words(&"a-bcd".repeat(40), &[]).len(), 36);
        assert_eq!(known_words("", &[]).len(), CALENDAR.len());
    }
}
