use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization as _;

/// The longest address that fits into an SMTP path (RFC 5321, section 4.5.3.1.3).
const MAX_BYTES: usize = 254;

/// A normalised e-mail address: trimmed, NFC, lower case, the domain in ASCII (IDNA), at
/// most 254 bytes. Two spellings of the same address are equal.
///
/// It has no `Display` and no `Debug`: an address must not reach the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Normalises and checks an address. The error never contains the value.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let trimmed = raw.trim();
        // Normalising cannot shorten it much, so very long input is refused without the work.
        if trimmed.len() > 2 * MAX_BYTES {
            return Err("must be at most 254 bytes");
        }
        let lower = trimmed.nfc().collect::<String>().to_lowercase();
        let lower = lower.nfc().collect::<String>();
        let (local, domain) = lower.rsplit_once('@').ok_or(MALFORMED)?;
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| MALFORMED)?;
        let address = format!("{local}@{domain}");
        if address.len() > MAX_BYTES {
            return Err("must be at most 254 bytes");
        }
        let rules = Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        EmailAddress::parse_with_options(&address, rules).map_err(|_| MALFORMED)?;
        Ok(Self(address))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const MALFORMED: &str = "must be an e-mail address such as name@example.com";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> String {
        Email::parse(raw).unwrap().as_str().to_owned()
    }

    #[test]
    fn spellings_of_one_address_are_equal() {
        assert_eq!(normal("  Ana@Example.COM\n"), "ana@example.com");
        assert_eq!(
            normal("jose\u{301}@example.com"),
            normal("JOSÉ@example.com")
        );
        assert_eq!(normal("a@BÜCHER.example"), "a@xn--bcher-kva.example");
    }

    #[test]
    fn malformed_addresses_are_refused() {
        let too_long = format!("a@{}.com", "b".repeat(250));
        for raw in [
            "",
            " ",
            "@",
            "a",
            "a@",
            "@b.com",
            "a@b@c.com",
            "a b@c.com",
            "a@b..com",
            "a@-b.com",
            "a\0@b.com",
            "a@b.com\0",
            "<a@b.com>",
            "Ana <a@b.com>",
            "a@b\u{7}.com",
            &too_long,
        ] {
            assert!(Email::parse(raw).is_err(), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(raw in "\\PC{0,40}@\\PC{0,20}") {
            if let Ok(email) = Email::parse(&raw) {
                prop_assert!(Email::parse(email.as_str()).is_ok_and(|again| again == email));
            }
        }
    }
}
