//! The use cases of administrators: support staff behind an internal service, and operators at the
//! command line. They need no password hasher, so a command can run them without the service.
//!
//! The scope was checked at the edge. Each act is audited, and its events name the administrator.

mod export;
mod import;
mod list;
mod password;
mod roles;
mod sessions;
mod suspension;
mod users;

use std::{sync::Arc, time::Duration};

pub use self::{
    export::{ExportError, ExportPage, ExportedUser, Hashes},
    import::{CheckedRow, IMPORT_BATCH, Import, ImportCounts, ImportPace, ImportTurn},
    list::{Page, PageRequest},
    users::UserRef,
};
use super::{Commits, Error};
use crate::{
    db::Db,
    model::{Clock, DataKeys, SessionEnd, SessionEndReason, Transition},
    telemetry::audit::{Audit, Reason},
};

pub struct Admin {
    pub db: Db,
    pub data_keys: Arc<DataKeys>,
    pub transition: Transition,
    pub access_token_ttl: Duration,
    pub clock: Arc<dyn Clock>,
    pub commits: Commits,
    pub import_pace: ImportPace,
}

impl Admin {
    const fn end(&self, reason: SessionEndReason) -> SessionEnd {
        SessionEnd {
            reason,
            access_token_ttl: self.access_token_ttl,
        }
    }

    /// Audits an act that has written events.
    fn done(&self, audit: Audit<'_>) {
        self.commits.notify();
        audit.ok();
    }
}

fn known<T>(found: Option<T>, audit: Audit<'_>) -> Result<T, Error> {
    found.ok_or_else(|| {
        audit.failed(Reason::UnknownUser);
        Error::UserNotFound
    })
}
