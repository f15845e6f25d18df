//! What is wrong with the configuration: all of it, not only the first thing found.
//!
//! A problem says what is expected, never what was found: any variable may hold a secret
//! that was put into the wrong one.

use std::fmt;

/// One thing wrong with the configuration. Displays as one line, `NAME: what is wrong`,
/// without the value of any variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    name: String,
    what: String,
}

impl Problem {
    pub(super) fn new(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.what)
    }
}

/// The problems found so far.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, name: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem::new(name, what));
    }

    /// The parsed value; `None` if the variable is not set or wrong.
    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        value: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = value?;
        if value.is_empty() {
            self.add(name, "is set but empty");
            return None;
        }
        parse(value).map_err(|what| self.add(name, what)).ok()
    }

    /// Adds a problem with two variables, unless one of them already has its own.
    pub(super) fn require(&mut self, holds: bool, names: [&str; 2], what: &str) {
        let known = |name: &&str| self.0.iter().any(|problem| problem.name == **name);
        if !holds && !names.iter().any(known) {
            self.add(names[0], what);
        }
    }

    /// `value` if there is no problem. Without a value there must be one.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
