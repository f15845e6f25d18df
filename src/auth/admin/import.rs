//! The import of accounts from another system, by a stream of calls or at the command line.

use std::sync::Arc;

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, sleep_until},
};
use tracing::info;

use super::Admin;
use crate::{
    auth::{Call, Error, stored_data::stored_hash},
    db::NewImport,
    model::{
        Act, Event, ImportRow, Imported, ImportedAccount, Payload, Rejection, StoredHash,
        Timestamp, UserId,
    },
    password::PasswordHash,
    telemetry::audit,
};

/// The most rows of a batch.
pub const IMPORT_BATCH: usize = 250;

/// How long an import rests after a batch, as a multiple of the time that the batch took. With
/// more than 1, most other calls find the one connection of SQLite free.
const REST: f64 = 1.5;

/// The account that a row describes, and its usable password if it has one.
pub type CheckedRow = Result<(ImportedAccount, Option<PasswordHash>), Rejection>;

/// An import: some batches of rows. Each batch is a transaction, and may be sent again.
///
/// Its beginning is audited. It writes its numbers to the log when it is dropped.
pub struct Import {
    admin: Arc<Admin>,
    call: Call,
    counts: ImportCounts,
}

/// The imports of a process write one batch at a time, and rest for longer than it took, so that
/// most of the other calls find the database idle.
#[derive(Default)]
pub struct ImportPace {
    /// The earliest begin of the next batch.
    next: Arc<Mutex<Option<Instant>>>,
}

/// The permission to write one batch.
pub struct ImportTurn {
    begun: Instant,
    next: OwnedMutexGuard<Option<Instant>>,
}

/// The number of rows with each result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportCounts {
    pub created: u64,
    pub unchanged: u64,
    pub rejected: u64,
}

impl Import {
    pub fn begin(admin: Arc<Admin>, call: Call) -> Self {
        call.audit(audit::Event::ImportUsers).because("begun").ok();
        Self {
            admin,
            call,
            counts: ImportCounts::default(),
        }
    }

    /// Checks a row when it arrives, so that a batch of large rows takes little memory.
    pub fn check(&self, row: Result<ImportRow, Rejection>) -> CheckedRow {
        row.and_then(|row| check(row, self.admin.clock.now()))
    }

    /// Waits until the next batch may be written. More of its rows arrive meanwhile.
    pub async fn turn(&self) -> ImportTurn {
        self.admin.import_pace.turn().await
    }

    /// Imports at most [`IMPORT_BATCH`] rows. Returns what became of each of them.
    pub async fn batch(
        &mut self,
        rows: Vec<CheckedRow>,
        turn: ImportTurn,
    ) -> Result<Vec<Imported>, Error> {
        let imported = self.admin.import(rows, &self.call).await?;
        drop(turn);
        for row in &imported {
            self.counts.count(row);
        }
        Ok(imported)
    }

    pub const fn counts(&self) -> ImportCounts {
        self.counts
    }

    /// Audits an import of all its rows.
    pub fn end(self) {
        self.audit().ok();
    }

    /// Audits an import that has failed before its end.
    pub fn failed(self) {
        self.audit().failed(audit::Reason::Fault);
    }

    fn audit(&self) -> audit::Audit<'_> {
        self.call.audit(audit::Event::ImportUsers)
    }
}

impl ImportPace {
    async fn turn(&self) -> ImportTurn {
        let next = Arc::clone(&self.next).lock_owned().await;
        if let Some(next) = *next {
            sleep_until(next).await;
        }
        let begun = Instant::now();
        ImportTurn { begun, next }
    }
}

impl Drop for ImportTurn {
    fn drop(&mut self) {
        *self.next = Some(Instant::now() + self.begun.elapsed().mul_f64(REST));
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let ImportCounts {
            created,
            unchanged,
            rejected,
        } = self.counts;
        let (caller, actor) = self.call.context.callers();
        info!(
            created,
            unchanged, rejected, caller, actor, "an import has ended"
        );
    }
}

impl ImportCounts {
    const fn count(&mut self, row: &Imported) {
        *match row {
            Imported::Created(_) => &mut self.created,
            Imported::Unchanged(_) => &mut self.unchanged,
            Imported::Rejected(_) => &mut self.rejected,
        } += 1;
    }
}

impl Admin {
    async fn import(&self, rows: Vec<CheckedRow>, call: &Call) -> Result<Vec<Imported>, Error> {
        assert!(rows.len() <= IMPORT_BATCH, "the caller divides them");
        let act = call.admin_act(self.clock.now());
        let (mut users, mut rejections) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(account) => {
                    users.push(self.new_import(account, &act)?);
                    rejections.push(None);
                }
                Err(rejection) => rejections.push(Some(rejection)),
            }
        }
        let mut imported = self.db.import_users(&users, act.now).await?.into_iter();
        let mut next = || imported.next().expect("a result for each account");
        let results = rejections.into_iter();
        let results: Vec<_> = results
            .map(|rejection| rejection.map_or_else(&mut next, Imported::Rejected))
            .collect();
        if results
            .iter()
            .any(|row| matches!(row, Imported::Created(_)))
        {
            self.commits.notify();
        }
        Ok(results)
    }

    /// The account with its event, in the form in which the database keeps it.
    fn new_import(
        &self,
        (account, hash): (ImportedAccount, Option<PasswordHash>),
        act: &Act,
    ) -> Result<NewImport, Error> {
        let user_id = account.user_id.unwrap_or_else(|| UserId::new(act.now));
        let form = self.transition.form(&self.data_keys, act.now);
        let password_hash = match hash {
            Some(hash) => stored_hash(&hash, user_id, form)?,
            None => StoredHash::unusable(),
        };
        let payload = Payload::UserCreated {
            email: account.email.clone(),
            created_at: account.created_at,
            imported: true,
        };
        Ok(NewImport {
            is_given_id: account.user_id.is_some(),
            email: account.email,
            password_hash,
            created_at: account.created_at,
            email_verified_at: account.email_verified_at,
            roles: account.roles,
            event: Event::new(user_id, payload, act),
        })
    }
}

fn check(row: ImportRow, now: Timestamp) -> CheckedRow {
    let account = row.parse(now)?;
    let hash = Some(&*account.password_hash).filter(|text| !text.is_empty());
    let hash = hash.map(|text| PasswordHash::import(text)).transpose();
    let hash = hash.map_err(|error| Rejection::invalid("password_hash", error.to_string()))?;
    Ok((account, hash))
}
