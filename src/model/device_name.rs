use super::unicode::has_invisible;

/// The name that a user gives a session: 1 to 100 characters, without invisible ones, because
/// it is shown beside the names of other sessions.
#[derive(Clone, Debug)]
pub struct DeviceName(String);

impl DeviceName {
    /// `None` for an empty name.
    pub fn parse(raw: String) -> Result<Option<Self>, &'static str> {
        if raw.chars().count() > 100 {
            return Err("must be at most 100 characters");
        }
        if has_invisible(&raw) {
            return Err("must not contain control, bidirectional or invisible characters");
        }
        Ok((!raw.is_empty()).then_some(Self(raw)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_has_at_most_100_characters_and_no_invisible_one() {
        assert!(DeviceName::parse(String::new()).is_ok_and(|name| name.is_none()));
        for name in ["é".repeat(100), "Ana’s iPhone ❤\u{FE0F}".to_owned()] {
            assert!(DeviceName::parse(name).is_ok_and(|name| name.is_some()));
        }
        assert!(DeviceName::parse("é".repeat(101)).is_err());
        for c in [
            '\t', '\0', '\u{200B}', '\u{202E}', '\u{2066}', '\u{3164}', '\u{FEFF}',
        ] {
            assert!(DeviceName::parse(format!("a{c}b")).is_err(), "{c:?}");
        }
    }
}
