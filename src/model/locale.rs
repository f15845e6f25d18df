/// The language of mails to a user: a BCP 47 tag (RFC 5646, section 2.1) of at most 35
/// characters, which are enough for language, script, region and variant (section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locale(String);

impl Locale {
    /// Checks the form of the tag, not whether its parts are registered. `None` for an empty one.
    pub fn parse(raw: String) -> Result<Option<Self>, &'static str> {
        if raw.is_empty() {
            return Ok(None);
        }
        if raw.len() > 35 {
            return Err("must be at most 35 characters");
        }
        let is_subtag = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let language = raw.split('-').next().unwrap_or_default();
        let is_language = language.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !(is_language && raw.split('-').all(is_subtag)) {
            return Err("must be a language tag of BCP 47, such as pt-BR");
        }
        Ok(Some(Self(raw)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_is_a_language_tag() {
        assert_eq!(Locale::parse(String::new()), Ok(None));
        for tag in [
            "en",
            "pt-BR",
            "zh-Hant-TW",
            "sl-rozaj-biske-1994",
            "de-CH-1901",
            "x-app",
        ] {
            assert!(
                Locale::parse(tag.to_owned()).is_ok_and(|tag| tag.is_some()),
                "{tag}"
            );
        }
        let long = format!("en-{}", "abcdefgh-".repeat(4));
        for tag in [
            "e n",
            "en_US",
            "-en",
            "en-",
            "en--US",
            "1en",
            "englishes",
            "é",
            "en\0",
            &long,
        ] {
            assert!(Locale::parse(tag.to_owned()).is_err(), "{tag}");
        }
    }
}
