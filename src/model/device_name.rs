/// The name that a user gives a session: 1 to 100 characters, no control characters.
#[derive(Clone, Debug)]
pub struct DeviceName(String);

impl DeviceName {
    /// `None` for an empty name.
    pub fn parse(raw: String) -> Result<Option<Self>, &'static str> {
        if raw.chars().count() > 100 {
            return Err("must be at most 100 characters");
        }
        if raw.chars().any(char::is_control) {
            return Err("must not contain control characters");
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
    fn a_device_name_has_at_most_100_characters_and_no_control_character() {
        assert!(DeviceName::parse(String::new()).is_ok_and(|name| name.is_none()));
        assert!(DeviceName::parse("é".repeat(100)).is_ok_and(|name| name.is_some()));
        assert!(DeviceName::parse("é".repeat(101)).is_err());
        assert!(DeviceName::parse("a\tb".to_owned()).is_err());
    }
}
