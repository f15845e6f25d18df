//! The declaration of a variable, for `--help`, the reader and the tests.

/// A variable without its type and parser.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    pub name: &'static str,
    pub heading: &'static str,
    pub value_name: &'static str,
    pub help: &'static str,
    pub default: Default,
    /// Secrets can also come from a file.
    pub is_secret: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// This text, parsed as if it had been given.
    Text(&'static str),
    /// A description of a default that has no text.
    Described(&'static str),
    Nothing,
}

impl Declaration {
    /// The variable that names the file of a secret.
    pub fn file(&self) -> Option<String> {
        self.is_secret.then(|| format!("{}_FILE", self.name))
    }

    /// The names of all variables that can set it: its own, and that of a secret's file.
    pub fn names(&self) -> impl Iterator<Item = String> + use<> {
        [self.name.to_owned()].into_iter().chain(self.file())
    }
}

/// A variable whose value is a `T`.
pub(super) struct Variable<T> {
    pub(super) declaration: Declaration,
    pub(super) parse: Parser<T>,
}

/// An error says which text would be right, never which one was given.
pub(super) type Parser<T> = fn(&str) -> Result<T, String>;

/// A variable that `variables!` completes.
pub(super) const fn value<T>(value_name: &'static str, parse: Parser<T>) -> Variable<T> {
    Variable {
        declaration: Declaration {
            name: "",
            heading: "",
            value_name,
            help: "",
            default: Default::Nothing,
            is_secret: false,
        },
        parse,
    }
}

/// A variable that can also come from a file.
pub(super) const fn secret<T>(value_name: &'static str, parse: Parser<T>) -> Variable<T> {
    let mut secret = value(value_name, parse);
    secret.declaration.is_secret = true;
    secret
}

impl<T> Variable<T> {
    pub(super) const fn default(mut self, text: &'static str) -> Self {
        self.declaration.default = Default::Text(text);
        self
    }

    pub(super) const fn when_unset(mut self, description: &'static str) -> Self {
        self.declaration.default = Default::Described(description);
        self
    }

    pub(super) const fn name(&self) -> &'static str {
        self.declaration.name
    }

    pub(super) const fn default_text(&self) -> &'static str {
        match self.declaration.default {
            Default::Text(text) | Default::Described(text) => text,
            Default::Nothing => "none",
        }
    }
}

/// Declares the variables under one heading of `--help`, and `VARIABLES`, the list of them.
/// Their doc comments are the text of `--help`.
macro_rules! variables {
    ($heading:literal $($(#[doc = $help:literal])+ $name:ident: $type:ty = $variable:expr;)+) => {
        $(pub(super) const $name: $crate::config::variable::Variable<$type> = {
            let mut variable = $variable;
            variable.declaration.name = stringify!($name);
            variable.declaration.heading = $heading;
            variable.declaration.help = concat!($($help),+);
            variable
        };)+
        pub(super) const VARIABLES: &[$crate::config::variable::Declaration] =
            &[$($name.declaration),+];
    };
}
pub(super) use variables;
