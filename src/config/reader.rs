use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::ExposeSecret as _;

use super::{
    args::Args,
    database::DATABASE_URL,
    embedded::DataFolder,
    problem::Problem,
    secret_text,
    value::secret_file,
    variable::{Declaration, Default, Variable},
};

type Finished<T> = (T, Option<DataFolder>);

/// Reads variables by their declarations. All problems are kept for [`Self::finish`], so a
/// wrong value is read as if it were not set and reading goes on.
pub(super) struct Reader<'a> {
    args: &'a Args,
    /// The folder of the embedded default, if there is no `DATABASE_URL`.
    folder: Option<DataFolder>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// The embedded default is below `base`.
    pub(super) fn new(args: &'a Args, base: &Path) -> Self {
        let mut names = DATABASE_URL.declaration.names();
        let is_embedded = names.all(|name| args.get(&name).is_none());
        Self {
            args,
            folder: is_embedded.then(|| DataFolder::new(base)),
            problems: Vec::new(),
        }
    }

    /// Whether the variable is set, or its file.
    pub(super) fn is_set(&self, variable: &Declaration) -> bool {
        let mut names = variable.names();
        names.any(|name| self.args.get(&name).is_some())
    }

    /// The value or the default. `None` if it is wrong, or not set and without a default text.
    pub(super) fn optional<T>(&mut self, variable: &Variable<T>) -> Option<T> {
        let name = variable.name();
        let file = variable.declaration.file().unwrap_or_default();
        match (self.args.get(name), self.args.get(&file)) {
            (Some(_), Some(_)) => {
                self.problem(
                    name,
                    format!("is set together with {file}: keep one of them"),
                );
                None
            }
            (Some(text), None) if variable.declaration.is_secret => {
                let line = secret_text::without_line_break(text);
                self.parse(name, line, |line| {
                    secret_text::check(line)?;
                    (variable.parse)(line)
                })
            }
            (Some(text), None) => self.parse(name, text, variable.parse),
            (None, Some(path)) => {
                let content = self.parse(&file, path, |path| secret_file(Path::new(path)))?;
                self.parse(&file, content.expose_secret(), variable.parse)
            }
            (None, None) => Self::default(variable),
        }
    }

    /// The file of a secret that is given as a file.
    pub(super) fn file<T>(&self, variable: &Variable<T>) -> Option<PathBuf> {
        let file = variable.declaration.file()?;
        self.args.get(&file).map(PathBuf::from)
    }

    /// The value, or the default if it is not set or wrong. For variables with a default text.
    pub(super) fn value<T>(&mut self, variable: &Variable<T>) -> T {
        let value = self.optional(variable).or_else(|| Self::default(variable));
        value.expect("the variable is declared with a default text")
    }

    fn default<T>(variable: &Variable<T>) -> Option<T> {
        match variable.declaration.default {
            Default::Text(text) => Some((variable.parse)(text).expect("a test parses it")),
            Default::Described(_) | Default::Nothing => None,
        }
    }

    /// The parsed text; a problem names its `origin`, a variable and perhaps a file.
    fn parse<T>(
        &mut self,
        origin: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match text {
            "" => Err("is set but empty".to_owned()),
            text => parse(text),
        };
        parsed.map_err(|what| self.problem(origin, what)).ok()
    }

    pub(super) fn problem(&mut self, name: &str, what: impl Into<String>) {
        self.problems.push(Problem::new(name, what));
    }

    /// Reports `variable` unless its value `holds` beside that of `other`, or one of the two is
    /// already reported.
    pub(super) fn require<T, U>(
        &mut self,
        holds: bool,
        variable: &Variable<T>,
        other: &Variable<U>,
        what: impl Into<String>,
    ) {
        let mut both = [&variable.declaration, &other.declaration].into_iter();
        if !holds && !both.any(|variable| self.is_reported(variable)) {
            self.problem(variable.name(), what);
        }
    }

    /// Whether there is a problem with the variable or its file.
    pub(super) fn is_reported(&self, variable: &Declaration) -> bool {
        let mut reported = self.problems.iter().map(Problem::name);
        reported.any(|reported| variable.names().any(|name| name == reported))
    }

    /// Like [`Self::require`] for two durations of which one limits the other.
    pub(super) fn require_order(
        &mut self,
        holds: bool,
        variable: &Variable<Duration>,
        relation: &str,
        limit: &Variable<Duration>,
    ) {
        let [default, default_limit] = [variable, limit].map(Variable::default_text);
        let limit_name = limit.name();
        let what = format!("(default {default}) {relation} {limit_name} (default {default_limit})");
        self.require(holds, variable, limit, what);
    }

    /// Reports each of the variables that is set.
    pub(super) fn refuse(&mut self, variables: &[Declaration], what: &str) {
        for name in variables.iter().flat_map(Declaration::names) {
            if self.args.get(&name).is_some() {
                self.problem(&name, what);
            }
        }
    }

    /// Reports `variable` if it is set without `needed`. An empty one is reported when it is
    /// read.
    pub(super) fn refuse_without<T, U>(
        &mut self,
        needed: &Variable<T>,
        variable: &Variable<U>,
        what: &str,
    ) {
        let given = self.args.get(variable.name()).unwrap_or_default();
        if !given.is_empty() && !self.is_set(&needed.declaration) {
            self.problem(variable.name(), what);
        }
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.folder.is_some()
    }

    pub(super) fn embedded_database(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(DataFolder::database)
    }

    /// The secret that the embedded default keeps in `file`, or a new one if there is no file.
    pub(super) fn embedded_secret<T, U>(
        &mut self,
        variable: &Variable<U>,
        file: &str,
        encode: fn([u8; 32]) -> String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.folder.as_mut()?.secret(variable.name(), file, encode) {
            Ok(secret) => self.parse(&secret.origin, secret.text.expose_secret(), parse),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// Whether the embedded default lacks a secret that was asked for.
    pub(super) fn lacks_secrets(&self) -> bool {
        self.folder.as_ref().is_some_and(DataFolder::lacks_secrets)
    }

    /// `value` and the folder of the embedded default, if there is no problem. Without a value
    /// there must be one.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<Finished<T>, Vec<Problem>> {
        match value {
            Some(value) if self.problems.is_empty() => Ok((value, self.folder)),
            _ => Err(self.problems),
        }
    }
}
