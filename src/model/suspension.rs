use super::{Timestamp, unicode::has_invisible};

/// The suspension of an account by an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    pub reason: String,
    pub since: Timestamp,
    /// `None`: it does not end by itself.
    pub until: Option<Timestamp>,
}

impl Suspension {
    /// From the columns, all of which are empty without a suspension.
    pub fn from_stored(
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        reason: Option<String>,
    ) -> Option<Self> {
        let reason = reason.unwrap_or_default();
        since.map(|since| Self {
            reason,
            since,
            until,
        })
    }

    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Why an account is suspended: 1 to 200 characters, without invisible ones, because it is shown
/// to other administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspensionReason(String);

impl SuspensionReason {
    pub fn parse(text: String) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            return Err("must not be empty");
        }
        if text.chars().count() > 200 {
            return Err("must be at most 200 characters");
        }
        if has_invisible(&text) {
            return Err("must not contain control, bidirectional or invisible characters");
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SINCE: Timestamp = Timestamp::from_micros(1_764_024_172_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_suspension_ends_at_its_end() {
        let until = SINCE + SECOND;
        let suspended = |until| {
            let reason = Some("spam".to_owned());
            Suspension::from_stored(Some(SINCE), until, reason).unwrap()
        };
        assert!(suspended(None).is_in_force(until));
        assert!(suspended(Some(until)).is_in_force(SINCE));
        assert!(!suspended(Some(until)).is_in_force(until));
        assert_eq!(Suspension::from_stored(None, None, None), None);
    }

    #[test]
    fn a_reason_is_a_short_visible_text() {
        assert!(SuspensionReason::parse("é".repeat(200)).is_ok());
        for text in ["", "  ", "a\nb", "a\u{202E}b", &"é".repeat(201)] {
            assert!(
                SuspensionReason::parse(text.to_owned()).is_err(),
                "{text:?}"
            );
        }
    }
}
