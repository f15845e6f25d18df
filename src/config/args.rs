//! The command line: a subcommand, and an option for each variable.
//!
//! Options are read as plain text. clap would stop at the first bad value and print it; the
//! [`Reader`](super::reader::Reader) reports every problem in one run and prints no value.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    io::{self, Write as _},
};

use clap::{Arg, FromArgMatches as _, Subcommand as _};
use clap_complete::Shell;

use super::{
    Problem,
    command::Command,
    variable::{Declaration, Default},
    variables,
};

const NAME: &str = env!("CARGO_PKG_NAME");
const ABOUT: &str = "RealChat Auth Service: accounts, sessions and tokens over gRPC";
const OPTIONS: &str = "Every option is also an environment variable; the flag wins.";

const EXIT_CODES: &str = "\
Exit codes:
  0   done; serve and edge: ended in order, by SIGTERM or SIGINT
  1   failed, the last line says why; serve and edge: could not start, or a part died
  64  wrong usage or configuration, one line for each problem; nothing was started";

/// The options that a command uses, by their headings or one by one. Commands accept the other
/// options too, so that one environment does for all of them, but do not show them in their help.
const USED: [(&str, &[&str]); 7] = [
    ("migrate", &["Database", "Telemetry"]),
    ("healthcheck", &["Server"]),
    ("outbox", &["Database", "Telemetry"]),
    (
        "users",
        &["Database", "ACCESS_TOKEN_TTL", "Stored data", "Telemetry"],
    ),
    ("keys", &["Tokens"]),
    ("edge", &[EDGE, "ADMIN_ADDR", "LOG", "LOG_FORMAT"]),
    ("completions", &[]),
];

const EDGE: &str = "Edge";

/// The command line and the environment. There is no `Debug`: some of the texts are secrets.
pub struct Args {
    pub command: Option<Command>,
    /// The texts by the names of the variables.
    given: HashMap<String, String>,
}

/// The program ends at once: help was asked for, or the usage is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Exit {
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// Variables that are not text; clap would not say which.
    #[error("not UTF-8")]
    NotText(Vec<Problem>),
}

impl Exit {
    /// `EX_USAGE` of sysexits.h for wrong usage (clap's own choice is 2), 0 for help.
    pub fn code(&self) -> u8 {
        match self {
            Self::Clap(error) if !error.use_stderr() => 0,
            Self::Clap(_) | Self::NotText(_) => 64,
        }
    }

    /// Prints clap's text, coloured on a terminal: help to stdout, an error to stderr.
    pub fn print(&self) -> io::Result<()> {
        match self {
            Self::Clap(error) => error.print(),
            Self::NotText(problems) => problems
                .iter()
                .try_for_each(|problem| writeln!(io::stderr(), "{problem}")),
        }
    }
}

impl Args {
    /// Reads the command line (the program's name first) and the environment.
    pub fn from_argv(argv: impl IntoIterator<Item = OsString>) -> Result<Self, Exit> {
        let is_text = |name: &String| env::var_os(name).is_none_or(|text| text.to_str().is_some());
        let not_text: Vec<_> = variables()
            .flat_map(Declaration::names)
            .filter(|name| !is_text(name))
            .map(|name| Problem::new(name, "is not text in UTF-8"))
            .collect();
        if !not_text.is_empty() {
            return Err(Exit::NotText(not_text));
        }
        Self::from_command(definition(), argv)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    pub fn completions(shell: Shell) -> String {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut definition(), NAME, &mut script);
        // For bash, clap_complete takes the hyphen in our name for the beginning of a
        // subcommand, in the labels only.
        String::from_utf8_lossy(&script).replace("auth__subcmd__service", "auth__service")
    }

    fn from_command(
        command: clap::Command,
        argv: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Exit> {
        let matches = command.try_get_matches_from(argv)?;
        let command = matches.subcommand_name();
        let command = command
            .map(|_| Command::from_arg_matches(&matches))
            .transpose()?;
        let given = |name: String| Some((matches.get_one::<String>(&name)?.clone(), name));
        let given = variables().flat_map(Declaration::names).filter_map(given);
        let given = given.map(|(text, name)| (name, text));
        let given = given.filter(|(name, text)| !is_unset(name, text)).collect();
        Ok(Self { command, given })
    }

    /// One more variable, whose text may have white space.
    #[cfg(test)]
    pub(super) fn with(mut self, name: &str, text: &str) -> Self {
        self.given.insert(name.to_owned(), text.to_owned());
        self
    }

    /// The options in `line`, separated by white space, without this process's environment.
    #[cfg(test)]
    pub(super) fn for_test(line: &str) -> Result<Self, Exit> {
        let argv = line.split_whitespace().map(OsString::from);
        let command = definition().mut_args(|arg| arg.env(None));
        Self::from_command(command, std::iter::once(NAME.into()).chain(argv))
    }
}

/// OpenTelemetry's rule for its variables: an empty one counts as not set.
fn is_unset(name: &str, text: &str) -> bool {
    name.starts_with("OTEL_") && text.is_empty()
}

/// Every option works before and after a subcommand, and `--help` shows no values.
pub(super) fn definition() -> clap::Command {
    let mut command = Command::augment_subcommands(clap::Command::new(NAME))
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(format!("{ABOUT}.\n\n{OPTIONS}"))
        .after_help(EXIT_CODES)
        .max_term_width(100)
        .args(variables().flat_map(options));
    let names: Vec<_> = (command.get_subcommands())
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    for name in names {
        let unused = variables().filter(|variable| !is_used(&name, variable));
        let hidden = unused.flat_map(options).map(|option| option.hide(true));
        command = command.mut_subcommand(&name, |command| command.args(hidden));
    }
    command
}

/// A command that [`USED`] does not name uses all options of the service.
fn is_used(command: &str, variable: &Declaration) -> bool {
    let used = USED.iter().find(|(name, _)| *name == command);
    used.map_or(variable.heading != EDGE, |(_, used)| {
        used.contains(&variable.heading) || used.contains(&variable.name)
    })
}

/// The options of a variable: its own, and that of a secret's file.
fn options(variable: &Declaration) -> impl Iterator<Item = Arg> + use<> {
    let help = variable.help.trim();
    let help = match variable.default {
        Default::Text(text) | Default::Described(text) => format!("{help} [default: {text}]"),
        Default::Nothing => help.to_owned(),
    };
    let heading = variable.heading;
    let option = |name: String, value_name, help| {
        Arg::new(name.clone())
            .long(name.to_lowercase().replace('_', "-"))
            .env(name)
            .value_name(value_name)
            .help(help)
            .help_heading(heading)
            .global(true)
            .hide_env_values(true)
    };
    let file_help = format!("File that holds the {}", variable.name);
    let file = variable.file().map(|file| option(file, "PATH", file_help));
    let own = option(variable.name.to_owned(), variable.value_name, help);
    [own].into_iter().chain(file)
}
