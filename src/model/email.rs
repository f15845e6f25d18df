use email_address::{EmailAddress, Options};
use icu_casemap::CaseMapper;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization as _;

use super::unicode::{is_invisible, is_undefined};

/// The longest address that fits into an SMTP path (RFC 5321, section 4.5.3.1.3).
const MAX_BYTES: usize = 254;

/// A normalised e-mail address, at most 254 bytes. Two spellings of the same address are equal.
///
/// It is trimmed. The local part is case-folded and in NFC; the domain is in ASCII (UTS #46).
/// Characters that a reader would not see are refused, and so are code points whose case is not
/// defined yet, quoted local parts, address literals and numeric top-level domains.
///
/// It has no `Display` and no `Debug`: an address must not reach the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Normalises and checks an address. The error never contains the value.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let trimmed = raw.trim();
        // Normalising shortens text to a third at most, so long input is refused without the
        // work.
        if trimmed.len() > 4 * MAX_BYTES {
            return Err(TOO_LONG);
        }
        // UTS #46 would remove some of these from a domain without an error.
        if trimmed.chars().any(is_invisible) {
            return Err(INVISIBLE);
        }
        let is_unusable = |c: char| c.is_whitespace() || is_undefined(c);
        let (local, domain) = trimmed.rsplit_once('@').ok_or(MALFORMED)?;
        // A quoted local part is another spelling of an unquoted one.
        if local.starts_with('"') || trimmed.chars().any(is_unusable) {
            return Err(MALFORMED);
        }
        let address = format!("{}@{}", fold(local), ascii_domain(domain)?);
        if address.len() > MAX_BYTES {
            return Err(TOO_LONG);
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
const TOO_LONG: &str = "must be at most 254 bytes";
const INVISIBLE: &str = "must not contain control, format or invisible characters";

/// Canonical caseless form (Unicode 3.13, D145) in NFC: texts that differ only in case, or in
/// the composition of their characters, become equal. Folding again changes nothing.
fn fold(text: &str) -> String {
    let decomposed: String = text.nfd().collect();
    CaseMapper::new().fold_string(&decomposed).nfc().collect()
}

/// UTS #46 without `CheckHyphens`' third and fourth position: `ab--cd.com` exists.
fn ascii_domain(domain: &str) -> Result<String, &'static str> {
    let (hyphens, length) = (Hyphens::CheckFirstLast, DnsLength::Verify);
    let ascii = Uts46::new().to_ascii(domain.as_bytes(), AsciiDenyList::STD3, hyphens, length);
    let ascii = ascii.map_err(|_| MALFORMED)?;
    // An address is no name, in any notation. A top-level domain is alphabetic (RFC 1123,
    // section 2.1) or begins with `xn--`.
    let top = ascii.rsplit('.').next().unwrap_or_default();
    if !top.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(MALFORMED);
    }
    Ok(ascii.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> String {
        let parsed = Email::parse(raw).map(|email| email.as_str().to_owned());
        parsed.unwrap_or_else(|problem| panic!("{raw:?} {problem}"))
    }

    #[test]
    fn spellings_of_one_address_are_equal() {
        for (one, other) in [
            ("  Ana@Example.COM\n", "ana@example.com"),
            ("jose\u{301}@example.com", "JOSÉ@example.com"),
            ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
            ("a@bücher。example", "A@XN--BCHER-KVA.example"),
            ("γιωργος.παπας@example.gr", "ΓΙΩΡΓΟΣ.ΠΑΠΑΣ@example.gr"),
            ("ὈΔΥΣΣΕΎΣ@example.gr", "ὀδυσσεύς@example.gr"),
            ("straße@example.de", "STRASSE@example.de"),
            ("ﬁona@example.com", "FIONA@example.com"),
            ("\u{345}α@example.gr", "ΙΑ@example.gr"),
            ("ᾳ@example.gr", "ΑΙ@example.gr"),
            ("Ꭰ@example.com", "ꭰ@example.com"),
            ("ЖЕНЯ@почта.рф", "женя@ПОЧТА.РФ"),
        ] {
            assert!(normal(one) == normal(other), "{one} {other}");
        }
        assert_eq!(normal("  Ana@Example.COM\n"), "ana@example.com");
        assert_eq!(normal("a@BÜCHER.example"), "a@xn--bcher-kva.example");
    }

    #[test]
    fn different_addresses_stay_different() {
        for (one, other) in [
            // Folding is the default one, not the Turkish one.
            ("ıris@example.com", "iris@example.com"),
            ("a.na@example.com", "ana@example.com"),
            // Two domains, each with its own owner (UTS #46, section 7).
            ("a@faß.de", "a@fass.de"),
        ] {
            assert!(normal(one) != normal(other), "{one} {other}");
        }
    }

    #[test]
    fn unusual_but_valid_addresses_are_accepted() {
        for raw in [
            "ana@ab--cd.com",
            "ana@r3---sn-apo3qvuoxuxbt-j5pe.googlevideo.com",
            "o'brien+tag@sub.example.co.uk",
            "ana@xn--p1ai.xn--p1ai",
            "ana@3com.com",
            "ana@1.2.3.example",
            "用户@例子.广告",
            "👍@example.com",
        ] {
            normal(raw);
        }
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
            "a\u{A0}b@c.com",
            "a\u{3000}b@c.com",
            "a@b..com",
            "a@-b.com",
            "a@b-.com",
            "a@b_c.com",
            "a@b.com.",
            "a@xn--.com",
            "a@xn--a.com",
            "a@xn--99999999.com",
            "a@xn--abc-.com",
            "<a@b.com>",
            "Ana <a@b.com>",
            "a(comment)@b.com",
            "\"ana\"@b.com",
            "\"a@b\"@c.com",
            "ana@[1.2.3.4]",
            "ana@[IPv6:::1]",
            "ana@1.2.3.4",
            "ana@example.123",
            "ana@example.0x7f",
            "ana@localhost",
            "a\u{378}@b.com",
            "a\u{E000}@b.com",
            &too_long,
        ] {
            assert!(Email::parse(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn no_invisible_character_is_accepted_in_either_part() {
        for c in [
            '\0',
            '\u{7}',
            '\u{AD}',
            '\u{34F}',
            '\u{61C}',
            '\u{115F}',
            '\u{200B}',
            '\u{200C}',
            '\u{200D}',
            '\u{200E}',
            '\u{202E}',
            '\u{2060}',
            '\u{2067}',
            '\u{2800}',
            '\u{3164}',
            '\u{FE0F}',
            '\u{FEFF}',
            '\u{E0061}',
            '\u{E0101}',
        ] {
            for raw in [
                format!("an{c}a@example.com"),
                format!("ana@exam{c}ple.com"),
                format!("{c}ana@example.com"),
            ] {
                assert_eq!(Email::parse(&raw).err(), Some(INVISIBLE), "{c:?}");
            }
        }
        assert_eq!(
            Email::parse("👩\u{200D}💻@example.com").err(),
            Some(INVISIBLE)
        );
    }

    /// An address that was parsed is parsed again, for example after it was read from a file.
    fn is_stable(raw: &str) -> bool {
        match Email::parse(raw) {
            Ok(email) => Email::parse(email.as_str()).is_ok_and(|again| again == email),
            Err(_) => true,
        }
    }

    #[test]
    fn parsing_is_idempotent_for_every_character_that_is_folded() {
        let is_changed = |c: &char| fold(&c.to_string()) != c.to_string();
        for c in ('\u{1}'..='\u{1FFFF}').filter(is_changed) {
            assert!(is_stable(&format!("a{c}b@example.com")), "{c:?}");
            assert!(is_stable(&format!("{c}@a{c}b.com")), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(raw in "\\PC{0,40}@\\PC{0,20}") {
            prop_assert!(is_stable(&raw));
        }

        #[test]
        fn marks_in_any_order_are_idempotent(raw in "[αωΣσςιẞß\u{301}\u{308}\u{313}\u{345}\u{307}iIİı]{1,8}@a.gr") {
            prop_assert!(is_stable(&raw));
        }
    }
}
