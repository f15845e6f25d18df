/// The most roles of a user.
const MAX_ROLES: usize = 20;
const MAX_ROLE_LENGTH: usize = 64;

/// The roles of a user: at most 20, each `[a-z0-9][a-z0-9_.:-]{0,63}`, in the order in which they
/// were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(
    /// Separated by spaces, as in the column `roles`.
    String,
);

impl Roles {
    /// A role that is given twice counts once.
    pub fn parse<T: AsRef<str>>(roles: &[T]) -> Result<Self, &'static str> {
        let mut distinct = Vec::new();
        for role in roles.iter().map(AsRef::as_ref) {
            if !is_role(role) {
                return Err(
                    "must each have 1 to 64 characters a-z, 0-9, _ . : -, and begin with a letter or digit",
                );
            }
            if !distinct.contains(&role) {
                distinct.push(role);
            }
            if distinct.len() > MAX_ROLES {
                return Err("must be at most 20");
            }
        }
        Ok(Self(distinct.join(" ")))
    }

    /// From the column.
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }

    pub fn to_list(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

fn is_role(text: &str) -> bool {
    let is_letter_or_digit = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_allowed = |c: u8| is_letter_or_digit(c) || b"_.:-".contains(&c);
    let first = text.bytes().next();
    first.is_some_and(is_letter_or_digit)
        && text.len() <= MAX_ROLE_LENGTH
        && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roles_keep_their_order_and_count_once() {
        let roles = Roles::parse(&["moderator", "billing:read", "moderator"]).unwrap();
        assert_eq!(roles.to_list(), ["moderator", "billing:read"]);
        let none: [&str; 0] = [];
        assert!(Roles::parse(&none).unwrap().is_empty());
    }

    #[test]
    fn a_role_is_short_and_plain() {
        for role in ["a", "0", "a_.:-9", &"x".repeat(64)] {
            assert!(Roles::parse(&[role]).is_ok(), "{role}");
        }
        for role in [
            "",
            " ",
            "Admin",
            "-a",
            "a b",
            "a,b",
            "é",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(Roles::parse(&[role]).is_err(), "{role}");
        }
    }

    #[test]
    fn there_are_at_most_twenty() {
        let names: Vec<_> = (0..21).map(|n| n.to_string()).collect();
        assert!(Roles::parse(&names[..20]).is_ok());
        assert!(Roles::parse(&names).is_err());
    }

    proptest! {
        #[test]
        fn stored_roles_come_back(names in proptest::collection::vec("[a-z0-9][a-z0-9_.:-]{0,63}", 0..=20)) {
            let roles = Roles::parse(&names).unwrap();
            prop_assert_eq!(Roles::from_stored(roles.as_str().to_owned()), roles);
        }
    }
}
