//! The results on stdout: text for people, or JSON.

use std::io::{self, ErrorKind, Write as _};

use auth_service::model::{CountedUser, Roles, Suspension, Timestamp, UserId};
use serde::Serialize;
use serde_json::json;

use super::{
    json::{Account, printable},
    table::Table,
};

#[derive(Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
}

/// A list that is shown page by page.
pub(super) struct List {
    /// `None` for JSON.
    table: Option<Table<7>>,
}

const ACCOUNT: [&str; 7] = [
    "USER_ID",
    "EMAIL",
    "CREATED",
    "VERIFIED",
    "SESSIONS",
    "ROLES",
    "SUSPENDED",
];

impl Output {
    pub(super) fn done(self, id: UserId, what: &str) -> anyhow::Result<()> {
        self.object(&json!({ "user_id": id.to_string() }), || {
            format!("{id} {what}\n")
        })
    }

    pub(super) fn ended(self, id: UserId, ended: usize) -> anyhow::Result<()> {
        let object = json!({ "user_id": id.to_string(), "ended": ended });
        self.object(&object, || format!("{id} ended sessions: {ended}\n"))
    }

    pub(super) fn roles(self, id: UserId, roles: &Roles, version: i64) -> anyhow::Result<()> {
        let object = json!({ "user_id": id.to_string(), "roles_version": version });
        self.object(&object, || {
            format!(
                "{id} has the roles: {} (version {version})\n",
                list_of(roles)
            )
        })
    }

    pub(super) fn account(self, found: &CountedUser, now: Timestamp) -> anyhow::Result<()> {
        self.object(&Account::new(found, now), || details(found, now))
    }

    pub(super) fn list(self) -> List {
        let table = (!self.json).then(|| Table::new(ACCOUNT));
        List { table }
    }

    pub(super) fn object(
        self,
        object: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            return print_line(object);
        }
        Ok(io::stdout().write_all(text().as_bytes())?)
    }
}

/// Prints a line of JSON.
pub(super) fn print_line(object: &impl Serialize) -> anyhow::Result<()> {
    Ok(io::stdout().write_all(line(object)?.as_bytes())?)
}

impl List {
    /// `false` if nobody reads any more.
    pub(super) fn show(&mut self, users: &[CountedUser], now: Timestamp) -> anyhow::Result<bool> {
        let text = match &mut self.table {
            Some(table) => table.lines(users.iter().map(|user| row(user, now)).collect()),
            None => {
                let lines = users.iter().map(|user| line(&Account::new(user, now)));
                lines.collect::<Result<_, _>>()?
            }
        };
        let mut stdout = io::stdout();
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => Ok(written.map(|()| true)?),
        }
    }
}

fn line(object: &impl Serialize) -> serde_json::Result<String> {
    let mut line = printable(serde_json::to_string(object)?);
    line.push('\n');
    Ok(line)
}

fn row(CountedUser { user, sessions }: &CountedUser, now: Timestamp) -> [String; 7] {
    let suspension = user.suspension_in_force(now);
    [
        user.id.to_string(),
        user.email.clone(),
        user.created_at.to_string(),
        if user.email_verified_at.is_some() {
            "yes"
        } else {
            "no"
        }
        .to_owned(),
        sessions.to_string(),
        list_of(&user.roles),
        suspension.map_or_else(|| "no".to_owned(), end_of),
    ]
}

fn details(CountedUser { user, sessions }: &CountedUser, now: Timestamp) -> String {
    let time = |time: Option<Timestamp>, none: &str| {
        time.map_or_else(|| none.to_owned(), |time| time.to_string())
    };
    let suspension = user.suspension_in_force(now).map(|it| {
        let (since, end) = (it.since, end_of(it));
        format!("since {since}, {end}: {}", it.reason)
    });
    let roles = format!("{} (version {})", list_of(&user.roles), user.roles_version);
    let lines = [
        ("user_id", user.id.to_string()),
        ("email", user.email.clone()),
        ("verified", time(user.email_verified_at, "no")),
        ("created", user.created_at.to_string()),
        (
            "password set",
            time(user.usable_password_set_at(), "no usable password"),
        ),
        ("suspended", suspension.unwrap_or_else(|| "no".to_owned())),
        ("roles", roles),
        ("live sessions", sessions.to_string()),
        ("last event", format!("version {}", user.event_version)),
    ];
    let mut table = Table::without_header();
    table.lines(lines.map(|(name, value)| [name.to_owned(), value]).into())
}

fn end_of(suspension: &Suspension) -> String {
    let until = suspension.until;
    until.map_or_else(|| "until restored".to_owned(), |end| format!("until {end}"))
}

fn list_of(roles: &Roles) -> String {
    if roles.is_empty() {
        return "none".to_owned();
    }
    roles.to_list().join(",")
}
