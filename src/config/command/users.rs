//! `auth-service users`.

mod arguments;

use clap::{Args, Subcommand};

pub use self::arguments::{File, Until};
use crate::{
    auth::UserRef,
    model::{SessionId, SuspensionReason},
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

const IMPORT_NOTES: &str = "\
Each line is one JSON object with the fields email, and if known user_id (a UUID), password_hash
(bcrypt), email_verified_at and created_at (RFC 3339), and roles (a list). A field with another
name, a longer line than 64 KiB and a value that is not valid reject the line; the others are
imported. An account that exists is not changed, so an import can be repeated: after an
interruption it compares the lines that are done, and goes on.

Examples:
  auth-service users import users.jsonl
  psql \"$OLD\" -XAt -f supabase.sql | auth-service users import -";

const EXPORT_NOTES: &str = "\
The lines of all accounts can be imported again. They do not hold suspensions, sessions, locales,
open mails, reserved addresses, the time when the password was set, and the versions of roles and
events. After an import into a database that publishes to the same topic, run `outbox
advance-versions` before the service starts, or consumers skip new events.
The file gets the mode 0600. While it is written its name ends with .partial.

--user writes one JSON document for a request of that person: account, sessions, open mails and
events that wait to be published, without secrets. Not in it are the counters of failed logins,
which are kept under keyed hashes, logs, what was published to Kafka, and backups.

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
    /// Create accounts from a file of JSON lines
    #[command(after_help = IMPORT_NOTES)]
    Import {
        /// The file, or - for the standard input
        file: File,
    },
    /// Write all accounts, or the data of one user, into a new file
    #[command(after_help = EXPORT_NOTES)]
    Export {
        /// The file, which must not exist, or - for the standard output
        file: File,
        /// With the password hashes, which let their reader guess passwords: only into a file
        #[arg(long, conflicts_with = "user")]
        with_hashes: bool,
        /// Only this user: the account, its sessions, open mails and events
        #[arg(long, value_name = "USER")]
        user: Option<UserRef>,
    },
}
