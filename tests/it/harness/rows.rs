//! Reads rows of both databases in the same form.

use auth_service::{
    model::Timestamp,
    proto::{self, user_event::Payload},
};
use prost::Message as _;

use super::{Backend, TestDatabase};

pub const USERS: &str = "SELECT count(*) FROM users";
/// Counts the events in the outbox.
pub const EVENTS: &str = "SELECT count(*) FROM outbox_events";
/// Counts the parked events in the outbox.
pub const PARKED: &str = "SELECT count(*) FROM outbox_events WHERE parked_at IS NOT NULL";

impl TestDatabase {
    /// Selects a column of bytes or ids as lower-case hex without hyphens.
    pub fn hex(&self, column: &str) -> String {
        match self.backend() {
            Backend::Sqlite => format!("lower(hex({column}))"),
            Backend::Postgres => {
                format!(r"replace(replace(CAST({column} AS text), '\x', ''), '-', '')")
            }
        }
    }

    /// An id as a literal of SQL.
    pub fn id(&self, id: &str) -> String {
        match self.backend() {
            Backend::Sqlite => format!("x'{}'", id.replace('-', "")),
            Backend::Postgres => format!("'{id}'"),
        }
    }

    /// Bytes as a literal of SQL.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        match self.backend() {
            Backend::Sqlite => format!("x'{}'", hex_of(bytes)),
            Backend::Postgres => format!(r"'\x{}'", hex_of(bytes)),
        }
    }

    /// A time as a literal of SQL.
    pub fn time(&self, time: Timestamp) -> String {
        match self.backend() {
            Backend::Sqlite => time.as_micros().to_string(),
            Backend::Postgres => format!("'{time}'"),
        }
    }

    /// All columns of all rows of a table, bytes as lower-case hex.
    pub async fn dump(&self, table: &str) -> Vec<String> {
        let row = match self.backend() {
            Backend::Sqlite => {
                let columns = format!("SELECT name FROM pragma_table_info('{table}')");
                let columns = self.texts(&columns).await.into_iter().flatten();
                let quoted: Vec<_> = columns.map(|name| format!("quote({name})")).collect();
                format!("lower({})", quoted.join(" || ' ' || "))
            }
            Backend::Postgres => format!("CAST(to_jsonb({table}) AS text)"),
        };
        let rows = self.texts(&format!("SELECT {row} FROM {table}")).await;
        let mut rows: Vec<_> = rows.into_iter().flatten().collect();
        rows.sort();
        rows
    }

    /// Ends the lease of the outbox, as if its time had passed.
    pub async fn end_lease(&self) {
        let past = self.dialect("1", "now() - interval '1 second'");
        let sql = format!("UPDATE outbox_lease SET expires_at = {past}");
        self.execute(&sql).await;
    }

    /// The events in the outbox, those that happened first before the others, each user's in the
    /// order of their versions.
    pub async fn events(&self) -> Vec<proto::UserEvent> {
        let payload = self.hex("payload");
        // A subquery, because the harness wraps a query on SQLite.
        let sql = format!(
            "SELECT payload FROM (SELECT {payload} AS payload FROM outbox_events \
             ORDER BY occurred_at, user_version, id) AS e"
        );
        let payloads = self.texts(&sql).await.into_iter().flatten();
        payloads
            .map(|payload| {
                proto::UserEvent::decode(&*bytes_of(&payload)).expect("a payload is a UserEvent")
            })
            .collect()
    }

    /// The sessions that ended according to the events, with the reason as the proto names it.
    pub async fn ended_sessions(&self) -> Vec<(String, &'static str)> {
        let events = self.events().await.into_iter();
        events
            .filter_map(|event| match event.payload {
                Some(Payload::SessionEnded(ended)) => {
                    let reason = ended.reason().as_str_name();
                    Some((ended.session_id, reason))
                }
                _ => None,
            })
            .collect()
    }
}

pub fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}

pub fn hex_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes it");
        hex
    })
}
