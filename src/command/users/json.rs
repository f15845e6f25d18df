//! The JSON of `--json`. Fields have the names of the messages of `AdminService`, and an absent one
//! is left out.

use auth_service::model::{CountedUser, Suspension, Timestamp, unicode::is_invisible};
use serde::{Serialize, Serializer};

#[derive(Serialize)]
pub(super) struct Account<'a> {
    user_id: String,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified_at: Option<Time>,
    created_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_changed_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspension: Option<SuspendedFor<'a>>,
    roles: Vec<&'a str>,
    roles_version: i64,
    sessions: usize,
    event_version: i64,
}

#[derive(Serialize)]
pub(super) struct SuspendedFor<'a> {
    reason: &'a str,
    since: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

/// In RFC 3339.
pub(super) struct Time(pub(super) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The same JSON, with `\u` in place of characters that could control a terminal. serde escapes
/// only those below U+0020.
pub(super) fn printable(json: String) -> String {
    let is_control = |c| c >= '\u{7f}' && is_invisible(c);
    if !json.contains(is_control) {
        return json;
    }
    let mut printable = String::with_capacity(json.len());
    for c in json.chars() {
        if is_control(c) {
            let mut buffer = [0; 2];
            let units = c.encode_utf16(&mut buffer).iter();
            printable.extend(units.map(|unit| format!("\\u{unit:04x}")));
        } else {
            printable.push(c);
        }
    }
    printable
}

impl<'a> Account<'a> {
    pub(super) fn new(CountedUser { user, sessions }: &'a CountedUser, now: Timestamp) -> Self {
        Self {
            user_id: user.id.to_string(),
            email: &user.email,
            email_verified_at: user.email_verified_at.map(Time),
            created_at: Time(user.created_at),
            password_changed_at: user.usable_password_set_at().map(Time),
            suspension: user.suspension_in_force(now).map(SuspendedFor::new),
            roles: user.roles.iter().collect(),
            roles_version: user.roles_version,
            sessions: *sessions,
            event_version: user.event_version,
        }
    }
}

impl<'a> SuspendedFor<'a> {
    pub(super) fn new(suspension: &'a Suspension) -> Self {
        Self {
            reason: &suspension.reason,
            since: Time(suspension.since),
            until: suspension.until.map(Time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_on_a_terminal_has_no_control_characters_and_says_the_same() {
        let texts = [
            "ana@example.com",
            "crème",
            "\u{1b}[2J",
            "\u{7f}\u{9b}2J",
            "\u{202e}\u{e0041}",
        ];
        let json = serde_json::to_string_pretty(&texts).unwrap();
        let printed = printable(json);
        assert!(
            printed.contains("crème") && printed.contains("\\u009b2J"),
            "{printed}"
        );
        assert!(
            !printed.contains(|c| c != '\n' && is_invisible(c)),
            "{printed}"
        );
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&printed).unwrap(),
            texts
        );
    }
}
