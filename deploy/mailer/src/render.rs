//! Turns a claimed mail into its subject, text and HTML. Change `render/` for your product.

mod languages;

use std::time::Duration;

use self::languages::{ENGLISH, GERMAN, Language};
use crate::{claim::Mail, proto::MailPurpose, settings::Words};

const TEXT: &str = include_str!("render/mail.txt");
const HTML: &str = include_str!("render/mail.html");

/// What a mail is for: `MailPurpose` of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    VerifyEmail,
    ResetPassword,
    /// Goes to the new address.
    ChangeEmail,
    /// Goes to the old address.
    RevertEmail,
}

impl Purpose {
    #[must_use]
    pub fn parse(number: i32) -> Option<Self> {
        match MailPurpose::try_from(number).ok()? {
            MailPurpose::VerifyEmail => Some(Self::VerifyEmail),
            MailPurpose::ResetPassword => Some(Self::ResetPassword),
            MailPurpose::ChangeEmail => Some(Self::ChangeEmail),
            MailPurpose::RevertEmail => Some(Self::RevertEmail),
            MailPurpose::Unspecified => None,
        }
    }

    /// The page of the link. One page confirms a first and a changed address: both call
    /// `ConfirmEmail`.
    fn path(self) -> &'static str {
        match self {
            Self::VerifyEmail | Self::ChangeEmail => "/confirm-email",
            Self::ResetPassword => "/reset-password",
            Self::RevertEmail => "/revert-email",
        }
    }
}

pub struct Rendered {
    pub subject: String,
    pub text: String,
    pub html: String,
}

pub struct Renderer {
    product: String,
    link_base: String,
}

impl Renderer {
    #[must_use]
    pub fn new(words: &Words) -> Self {
        Self {
            product: words.product.clone(),
            link_base: words.link_base.clone(),
        }
    }

    #[must_use]
    pub fn render(&self, mail: &Mail) -> Rendered {
        let language = language(&mail.locale);
        let words = language.words(mail.purpose);
        let life = life(language, mail.life());
        let product = [("product", self.product.as_str()), ("life", life.as_str())];
        let filled = |text: &str| fill(text, &product);
        let values = [
            ("lang", language.tag.to_owned()),
            ("subject", filled(words.subject)),
            ("lead", filled(words.lead)),
            ("action", filled(words.action)),
            ("link", self.link(mail)),
            ("expires", filled(language.expires)),
            ("code", filled(language.code)),
            ("token", mail.token.clone()),
            ("ignore", filled(words.ignore)),
            ("product", self.product.clone()),
        ];
        let escaped = values
            .each_ref()
            .map(|(name, value)| (*name, escape(value)));
        Rendered {
            text: fill(TEXT, &values),
            html: fill(HTML, &escaped),
            subject: filled(words.subject),
        }
    }

    /// The token is in the query, so that the page works without JavaScript. The README says what
    /// the page must do to keep it secret. A token needs no escapes.
    fn link(&self, mail: &Mail) -> String {
        let path = mail.purpose.path();
        format!("{}{path}?token={}", self.link_base, mail.token)
    }
}

/// The language of a BCP 47 tag. English if there is no other.
fn language(locale: &str) -> &'static Language {
    let primary = locale.split(['-', '_']).next().unwrap_or_default();
    match primary.to_ascii_lowercase().as_str() {
        "de" => &GERMAN,
        _ => &ENGLISH,
    }
}

/// A whole number of the largest unit of which there are at least two.
fn life(language: &Language, life: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = life.as_secs();
    let round = |unit: u64| (seconds + unit / 2) / unit;
    let (number, unit) = match seconds {
        ..HOUR => (round(MINUTE), language.minutes),
        HOUR..DAY => (round(HOUR).max(2), language.hours),
        DAY.. => (round(DAY).max(2), language.days),
    };
    format!("{number} {unit}")
}

/// Replaces each `{{name}}` once: braces in a value stay as they are.
fn fill(template: &str, values: &[(&str, impl AsRef<str>)]) -> String {
    let mut filled = String::with_capacity(2 * template.len());
    let mut parts = template.split("{{");
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once("}}").expect("the templates are closed");
        let value = values.iter().find(|(key, _)| *key == name);
        filled.push_str(value.expect("the templates name values").1.as_ref());
        filled.push_str(rest);
    }
    filled
}

/// For HTML text and quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const ALL: [Purpose; 4] = [
        Purpose::VerifyEmail,
        Purpose::ResetPassword,
        Purpose::ChangeEmail,
        Purpose::RevertEmail,
    ];

    fn rendered(product: &str, purpose: Purpose, locale: &str) -> Rendered {
        let words = Words {
            product: product.to_owned(),
            link_base: "https://chat.example".to_owned(),
        };
        let mail = Mail {
            request_id: "id".to_owned(),
            purpose,
            email: "ana@example.com".to_owned(),
            token: "rcm_a-token".to_owned(),
            expires_at: SystemTime::now() + Duration::from_mins(30),
            locale: locale.to_owned(),
        };
        Renderer::new(&words).render(&mail)
    }

    #[test]
    fn each_purpose_has_its_page_in_each_language() {
        for locale in ["en", "de"] {
            let mails = ALL.map(|purpose| rendered("RealChat", purpose, locale));
            let paths = [
                "confirm-email",
                "reset-password",
                "confirm-email",
                "revert-email",
            ];
            for (mail, path) in mails.iter().zip(paths) {
                let link = format!("https://chat.example/{path}?token=rcm_a-token");
                assert!(mail.text.contains(&link), "{}", mail.text);
                assert!(mail.html.contains(&format!("href=\"{link}\"")));
                assert!(mail.html.contains(&format!("<html lang=\"{locale}\"")));
                for text in [&mail.subject, &mail.text, &mail.html] {
                    assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
                }
            }
            let subjects: Vec<_> = mails.iter().map(|mail| &mail.subject).collect();
            assert!((1..4).all(|n| !subjects[..n].contains(&subjects[n])));
        }
    }

    #[test]
    fn unknown_languages_are_english() {
        let subject = |locale| rendered("RealChat", Purpose::ResetPassword, locale).subject;
        let (english, german) = (subject("en-GB"), subject("de"));
        assert_ne!(english, german);
        for locale in ["de-AT", "DE", "de-Latn-CH-1996"] {
            assert_eq!(subject(locale), german, "{locale}");
        }
        for locale in ["", "en", "pt-BR", "den", "x-de"] {
            assert_eq!(subject(locale), english, "{locale}");
        }
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let product = "<b title=\"x\" id='y'>R&D {{token}}</b>";
        let mail = rendered(product, Purpose::ResetPassword, "en");
        assert!(mail.text.contains(product) && mail.subject.contains(product));
        assert!(!mail.html.contains("<b "));
        let escaped = "&lt;b title=&quot;x&quot; id=&#39;y&#39;&gt;R&amp;D {{token}}&lt;/b&gt;";
        assert!(mail.html.contains(escaped));
    }

    #[test]
    fn lives_are_in_the_largest_unit() {
        let texts = [
            (5 * 60, "5 minutes"),
            (30 * 60 - 2, "30 minutes"),
            (90 * 60, "2 hours"),
            (24 * 3600 - 2, "24 hours"),
            (7 * 24 * 3600 - 2, "7 days"),
        ];
        for (seconds, text) in texts {
            assert_eq!(life(&ENGLISH, Duration::from_secs(seconds)), text);
        }
    }
}
