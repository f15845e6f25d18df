//! The words that an attacker tries first.

use std::collections::HashSet;

use idna::domain_to_unicode;

use super::{CHECKED_CHARS, readings::lower};

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

/// Words of this kind of service, and of other languages, from the top of lists of leaked
/// passwords. zxcvbn knows English words only.
const COMMON: [&str; 39] = [
    "chat",
    "user",
    "app",
    "login",
    "love",
    "ilove",
    "forever",
    "jesus",
    "trump",
    "covid",
    "iphone",
    "bonjour",
    "senha",
    "contraseña",
    "passwort",
    "motdepasse",
    "parola",
    "hasło",
    "şifre",
    "primavera",
    "verano",
    "otoño",
    "invierno",
    "printemps",
    "hiver",
    "automne",
    "verão",
    "outono",
    "inverno",
    "estate",
    "autunno",
    "sommer",
    "herbst",
    "frühling",
    "пароль",
    "привет",
    "йцукен",
    "йцукенгшщ",
    "κωδικός",
];

/// More would only slow the estimate down.
const MAX_EMAIL_WORDS: usize = 16;
const MIN_CHARS: usize = 3;

/// The e-mail address and its parts, the product's words, the calendar and common words, the
/// most likely first. Each is also there without capitals and accents.
pub(in crate::password) fn known_words(email: &str, product: &[String]) -> Vec<String> {
    let of_email = words_of(email).into_iter().take(MAX_EMAIL_WORDS);
    let of_email = of_email.map(|word| word.chars().take(CHECKED_CHARS).collect());
    let product = product.iter().flat_map(|word| {
        let name = joined(word);
        let site = format!("www.{name}.com");
        [word.clone(), name, site]
    });
    let fixed = CALENDAR.into_iter().chain(COMMON).map(str::to_owned);
    let mut words = Vec::new();
    for word in of_email.chain(product).chain(fixed) {
        let plain = lower(&word);
        for form in [word, plain] {
            if !words.contains(&form) {
                words.push(form);
            }
        }
    }
    words
}

fn words_of(email: &str) -> Vec<String> {
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let (international, _) = domain_to_unicode(domain);
    let without_number = |text: &str| {
        text.trim_end_matches(|c: char| c.is_ascii_digit())
            .to_owned()
    };
    let mut words = vec![
        local.to_owned(),
        joined(local),
        without_number(&joined(local)),
        email.to_owned(),
        format!("{}@{domain}", without_number(local)),
    ];
    // `Acme2026!` of somebody at acme.com; a top-level domain is no name.
    for domain in [domain, &international] {
        for label in domain.rsplit('.').skip(1) {
            words.extend([label.to_owned(), joined(label)]);
        }
    }
    let parts = local.split(|c: char| !c.is_alphanumeric());
    words.extend(parts.map(str::to_owned));
    words.retain(|word| word.chars().count() >= MIN_CHARS);
    let mut seen = HashSet::new();
    words.retain(|word| seen.insert(word.clone()));
    words
}

/// Without punctuation.
fn joined(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
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
            "ana.silva@mail.acme.",
            "acme",
            "mail",
            "ana",
            "silva84",
            "Real Chat",
            "real chat",
            "RealChat",
            "realchat",
            "www.RealChat.com",
            "www.realchat.com",
            "summer",
        ];
        assert_eq!(words[..expected.len()], expected);
        let many = known_words(&"a-bcd".repeat(40), &[]).len() - known_words("", &[]).len();
        assert!(many <= 2 * MAX_EMAIL_WORDS, "{many}");
    }
}
