//! The rights of an internal service.

use std::fmt::{self, Display, Formatter};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `GetSigningKey`, and `Watch` of `EdgeService`.
    Keys,
    /// The client's address that it passes on is believed.
    Address,
    /// `MailService`.
    Mail,
    /// `AdminService`.
    Admin,
    /// `ImportUsers`.
    Import,
}

impl Scope {
    pub const ALL: [Self; 5] = [
        Self::Keys,
        Self::Address,
        Self::Mail,
        Self::Admin,
        Self::Import,
    ];

    /// In `INTERNAL_SCOPES`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Address => "address",
            Self::Mail => "mail",
            Self::Admin => "admin",
            Self::Import => "import",
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// The scopes of a service that `INTERNAL_SCOPES` does not name: all that a gateway needs.
    pub const GATEWAY: Self = Self::of(Scope::Keys).union(Self::of(Scope::Address));

    pub const fn of(scope: Scope) -> Self {
        Self(1 << scope as u8)
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has(self, scope: Scope) -> bool {
        self.0 & Self::of(scope).0 != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        let scopes = scopes.into_iter().map(Self::of);
        scopes.fold(Self::default(), Self::union)
    }
}

/// As in `INTERNAL_SCOPES`.
impl Display for Scopes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let granted = Scope::ALL.into_iter().filter(|scope| self.has(*scope));
        let words: Vec<_> = granted.map(Scope::word).collect();
        f.write_str(&words.join("+"))
    }
}
