//! Accounts of another system.

mod statement;

use std::collections::HashSet;

use diesel_async::RunQueryDsl as _;

use self::statement::{InsertUsers, Steps as _};
use crate::{
    db::{
        Db, Error,
        mail::Steps as _,
        outbox::{EventRow, insert_events},
        retry::LostRaces,
        steps::steps,
        transaction::transaction,
        with_conn,
    },
    model::{Email, Event, ImportClaim, Imported, Roles, StoredHash, Timestamp, plan_import},
};

/// An account to import. Its id is the user of the event.
pub struct NewImport {
    /// Whether the row names the id.
    pub is_given_id: bool,
    pub email: Email,
    pub password_hash: StoredHash,
    pub created_at: Timestamp,
    pub email_verified_at: Option<Timestamp>,
    pub roles: Roles,
    pub event: Event,
}

impl NewImport {
    fn claim(&self) -> ImportClaim<'_> {
        ImportClaim {
            email: self.email.as_str(),
            id: self.event.user_id,
            is_given: self.is_given_id,
        }
    }
}

/// Why a batch was rolled back.
pub(in crate::db) enum Undone {
    /// Another transaction has written one of the accounts since this one read them.
    LostRace,
    /// Accounts that had these addresses can take them back.
    Reserved(Vec<String>),
    Failed(Error),
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

steps! {
    trait Import;

    async fn import(
        &mut self, users: &[NewImport], reserved: &HashSet<String>, now: Timestamp
    ) -> Result<Vec<Imported>, Undone> {
        let emails: Vec<_> = users.iter().map(|user| user.email.as_str()).collect();
        let ids: Vec<_> = users.iter().map(|user| user.event.user_id).collect();
        let mut known = self.known_accounts(&emails, &ids).await?;
        known.reserved.clone_from(reserved);
        let plan = plan_import(users.iter().map(NewImport::claim), known);
        let planned = users.iter().zip(&plan);
        let created = planned.filter(|(_, plan)| matches!(plan, Imported::Created(_)));
        let mut created: Vec<_> = created.map(|(user, _)| user).collect();
        if created.is_empty() {
            return Ok(plan);
        }
        created.sort_unstable_by_key(|user| user.email.as_str());
        if InsertUsers(&created).execute(self).await? < created.len() {
            return Err(Undone::LostRace);
        }
        // Read after the addresses were written: an account that had one has committed by now.
        let written: Vec<_> = created.iter().map(|user| user.email.as_str()).collect();
        let reserved = self.reserved_among(&written, now).await?;
        if !reserved.is_empty() {
            return Err(Undone::Reserved(reserved));
        }
        let events = created.iter().map(|user| EventRow::new(&user.event, 1));
        insert_events(events.collect()).execute(self).await?;
        Ok(plan)
    }
}

impl Db {
    /// Creates the accounts that do not exist, each with its first event, in one transaction.
    /// Returns what became of each of them, as if they came one after the other.
    ///
    /// A unique index decides a race with a registration or another import. The batch is rolled back
    /// then, and planned again. Rows are written in the order of their addresses: two imports of the
    /// same rows wait for each other without a deadlock.
    pub async fn import_users(
        &self,
        users: &[NewImport],
        now: Timestamp,
    ) -> Result<Vec<Imported>, Error> {
        let mut races = LostRaces::new(self.timeout);
        let mut reserved = HashSet::new();
        loop {
            let done = with_conn!(self, races.deadline, conn => {
                let done = transaction(conn, async |conn| conn.import(users, &reserved, now).await);
                match done.await {
                    Err(Undone::Failed(error)) => return Err(error),
                    done => done,
                }
            });
            match done? {
                Ok(imported) => return Ok(imported),
                Err(Undone::Reserved(found)) => reserved.extend(found),
                Err(Undone::LostRace) => races.wait_after_one().await?,
                Err(Undone::Failed(error)) => return Err(error),
            }
        }
    }
}
