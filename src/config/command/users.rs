//! `auth-service users`. The parsers do not repeat the value in an error: it may be an address.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap::{
    Arg, Args, Subcommand,
    builder::{TypedValueParser, ValueParserFactory},
    error::ErrorKind,
};

use crate::{
    auth::UserRef,
    config::value::{self, DAY},
    model::{Email, SessionId, SuspensionReason, Timestamp, UserId},
};

const NOTES: &str = "\
USER is the id or the e-mail address of an account.
The service may run at the same time. Events have the actor admin:cli.

Exit codes:
  0   done
  1   unknown user, a rejected line of an import, or a failure
  64  wrong usage or configuration; nothing was changed

Examples:
  auth-service users get ana@example.com
  auth-service users suspend ana@example.com --reason 'spam, ticket 4711' --until 7d
  auth-service users list --json | jq -r 'select(.suspension) | .email'";

const EXPORT_NOTES: &str = "\
The lines of all accounts can be imported again. They do not hold suspensions, sessions, locales,
open mails, and the versions of roles and events. The file gets the mode 0600. While it is
written its name ends with .partial.

--user writes one JSON document with all that is kept about that user, for a request of that
person: account, sessions, open mails and events that wait to be published, without secrets.

Examples:
  auth-service users export users.jsonl --with-hashes
  auth-service users export ana.json --user ana@example.com";

#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = NOTES)]
pub struct Users {
    #[command(subcommand)]
    pub action: UsersAction,
    /// Print JSON: one object, or one a line for a list
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum UsersAction {
    /// Show an account: address, suspension, roles, number of sessions
    Get {
        /// Id or e-mail address
        user: UserRef,
    },
    /// Show all accounts in the order of their ids
    List,
    /// Keep a user out: the sessions end, and nobody can log in
    Suspend {
        /// Id or e-mail address
        user: UserRef,
        /// Why: 1 to 200 characters, shown to administrators, in the event and in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: SuspensionReason,
        /// When it ends by itself: 2026-12-31T00:00:00Z, or from now, such as 12h or 7d
        #[arg(long, value_name = "TIME")]
        until: Option<Until>,
    },
    /// End a suspension
    Restore {
        /// Id or e-mail address
        user: UserRef,
    },
    /// End all sessions of a user, or one. The user can log in again
    EndSessions {
        /// Id or e-mail address
        user: UserRef,
        /// Only this one. `users export - --user USER` shows the ids
        #[arg(long, value_name = "ID")]
        session: Option<SessionId>,
    },
    /// Ask the mailer for a mail with which the user sets another password
    SendReset {
        /// Id or e-mail address
        user: UserRef,
    },
    /// Make the password unusable: the sessions end, and the user gets a mail to set another one
    InvalidatePassword {
        /// Id or e-mail address
        user: UserRef,
    },
    /// Forget the failed logins of an account, so that the user can try again at once
    Unlock {
        /// Id or e-mail address
        user: UserRef,
    },
    /// Replace the roles of a user; without any, the user has none
    SetRoles {
        /// Id or e-mail address
        user: UserRef,
        /// At most 20, each 1 to 64 characters a-z, 0-9, _ . : -
        #[arg(value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Delete an account for good, with its sessions
    Delete {
        /// Id or e-mail address
        user: UserRef,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Write all accounts, or the data of one user, into a new file
    #[command(after_help = EXPORT_NOTES)]
    Export {
        /// The file, which must not exist, or - for the standard output
        file: File,
        /// With the password hashes. Who has them can guess passwords: only into a file
        #[arg(long, conflicts_with = "user")]
        with_hashes: bool,
        /// Only this user, with all that is kept about that person
        #[arg(long, value_name = "USER")]
        user: Option<UserRef>,
    },
}

/// The end of a suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    At(Timestamp),
    /// From now.
    In(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// Standard input or output.
    Standard,
    Path(PathBuf),
}

fn user(text: &str) -> Result<UserRef, String> {
    if text.contains('@') {
        return Ok(UserRef::Email(Email::parse(text)?));
    }
    let id = UserId::parse(text).map(UserRef::Id);
    id.ok_or_else(|| "must be the id (a UUID) or the e-mail address of an account".into())
}

fn session(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).ok_or_else(|| "must be the id (a UUID) of a session".into())
}

fn reason(text: &str) -> Result<SuspensionReason, String> {
    Ok(SuspensionReason::parse(text.to_owned())?)
}

fn until(text: &str) -> Result<Until, String> {
    if let Some(time) = Timestamp::parse(text) {
        return Ok(Until::At(time));
    }
    let from_now = value::duration(text, Duration::from_secs(1)..=3650 * DAY);
    from_now
        .map(Until::In)
        .map_err(|what| format!("{what}; or a time with its zone, such as 2026-12-31T00:00:00Z"))
}

fn file(text: &str) -> Result<File, String> {
    match text {
        "" => Err("must not be empty".into()),
        "-" => Ok(File::Standard),
        path => Ok(File::Path(path.into())),
    }
}

#[derive(Clone)]
pub struct Parser<T>(fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Parser<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let text = value.to_str().ok_or("must be UTF-8".to_owned());
        text.and_then(self.0).map_err(|what| {
            let name = arg.map(ToString::to_string).unwrap_or_default();
            let message = format!("{name}: {what}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

macro_rules! parsers {
    ($($type:ty: $parse:ident),+) => {$(
        impl ValueParserFactory for $type {
            type Parser = Parser<Self>;

            fn value_parser() -> Self::Parser {
                Parser($parse)
            }
        }
    )+};
}

parsers!(UserRef: user, SessionId: session, SuspensionReason: reason, Until: until, File: file);
