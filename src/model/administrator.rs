//! The party behind the act of an administrator, for events and the audit log.

use std::fmt::{self, Display, Formatter};

/// The person for whom an internal service acts, as that service names it: 1 to 100 characters of
/// printable ASCII, which is all that metadata of gRPC can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person(String);

impl Person {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let is_printable = text.bytes().all(|c| c == b' ' || c.is_ascii_graphic());
        if text.is_empty() || text.len() > 100 || !is_printable {
            return Err("must be 1 to 100 characters of printable ASCII");
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An internal service with the right to administrate, or the command line.
#[derive(Clone, Debug)]
pub struct Administrator {
    pub caller: String,
    pub person: Option<Person>,
}

/// The `actor` of events.
impl Display for Administrator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "admin:{}", self.caller)?;
        match &self.person {
            Some(person) => write!(f, "/{}", person.as_str()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_names_the_service_and_the_person() {
        let caller = "support".to_owned();
        let alone = Administrator {
            caller,
            person: None,
        };
        assert_eq!(alone.to_string(), "admin:support");
        let person = Person::parse(" Mia Berg ").ok();
        let both = Administrator { person, ..alone };
        assert_eq!(both.to_string(), "admin:support/Mia Berg");
    }

    #[test]
    fn a_person_is_printable_ascii() {
        assert!(Person::parse(&"x".repeat(100)).is_ok());
        for text in ["", " ", "a\tb", "a\nb", "é", &"x".repeat(101)] {
            assert!(Person::parse(text).is_err(), "{text:?}");
        }
    }
}
