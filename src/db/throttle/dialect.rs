//! The SQL that differs between the databases.

use diesel::{backend::Backend, pg::Pg, sqlite::Sqlite};

pub(super) trait Dialect: Backend {
    const LEAST: &str;
    const GREATEST: &str;
    const SKIP_LOCKED: &str;
}

impl Dialect for Pg {
    const LEAST: &str = "LEAST";
    const GREATEST: &str = "GREATEST";
    const SKIP_LOCKED: &str = "FOR UPDATE SKIP LOCKED";
}

impl Dialect for Sqlite {
    const LEAST: &str = "MIN";
    const GREATEST: &str = "MAX";
    /// Not needed: SQLite has one writer.
    const SKIP_LOCKED: &str = "";
}
