//! A problem of the configuration. It says what is expected, never what was found: a secret may
//! have been put into the wrong variable.

use std::fmt;

/// Displays as one line, `NAME: what is wrong`, without the value of any variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    name: String,
    what: String,
}

impl Problem {
    pub(super) fn new(name: impl Into<String>, what: impl Into<String>) -> Self {
        let (name, what) = (name.into(), what.into());
        Self { name, what }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}
