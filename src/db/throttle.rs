//! Counters of failed attempts, shared by all replicas.
//!
//! An attempt is counted before its password is hashed, by one statement, and taken back when
//! it turns out to be no failure: attempts on many connections at once cannot slip through. It
//! has up to three counters (account, pair, caller address), and is admitted only if none of
//! them is blocked. A refused attempt changes no counter.
//!
//! A counter is stored not as a number but as the time from which a failure is free again, so
//! that it fades by itself (the generic cell rate algorithm, ITU-T I.371). Each statement locks
//! its rows in the order of their keys, and only while it runs: two statements cannot deadlock.

mod dialect;
mod row;
mod sql;
mod statement;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use self::row::Row;
pub(super) use self::statement::Statement;
use super::{Db, Error, schema::login_throttle, with_conn};
use crate::model::{Credentials, StoredBlock, ThrottleLimits, Timestamp, UserId};

/// The key of a counter: a hash.
pub type Key = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub key: Key,
    /// How many failures cause no wait: at least one.
    pub free: u32,
}

/// An attempt that may fail only a limited number of times.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The account to find the credentials of.
    pub email: Option<&'a str>,
    /// The account. Its failures of a day are limited too.
    pub account: Option<Count>,
    /// The account together with the caller address. If the pair is known, the account's counter
    /// does not hold it back.
    pub pair: Option<Count>,
    pub address: Option<Count>,
    pub now: Timestamp,
    pub limits: &'a ThrottleLimits,
}

pub enum Admission {
    /// The attempt counts as a failure until it is settled.
    Admitted(Counted, Option<Credentials>),
    /// The last block that holds the attempt back ends at `until`.
    Refused { until: Timestamp },
}

/// The counters that an attempt has raised: each key, and the end of its block since then.
#[derive(Debug, Default)]
pub struct Counted(Vec<(Vec<u8>, i64)>);

/// The end of an attempt that is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The password was right. The counters of account and pair are cleared, and a pair with an
    /// address is known until `known_until`. For the address only this attempt is taken back.
    Succeeded { known_until: Timestamp },
    /// The password was never hashed.
    TakenBack,
}

/// A raised row: its key, `blocked_until`, `known_until`, and the credentials.
type Raised = (
    Vec<u8>,
    i64,
    i64,
    Option<UserId>,
    Option<String>,
    Option<Timestamp>,
);

impl Db {
    /// Counts an attempt if it is admitted, and finds the credentials, in one statement.
    pub async fn admit(&self, attempt: &Attempt<'_>) -> Result<Admission, Error> {
        if attempt.counts().next().is_none() {
            let found = match attempt.email {
                Some(email) => self.find_credentials(email).await?,
                None => None,
            };
            return Ok(Admission::Admitted(Counted::default(), found));
        }
        let raised: Vec<Raised> = with_conn!(self, conn => {
            Statement::admit(attempt).load(conn).await?
        })?;
        let is_complete = attempt.is_complete(&raised);
        let found = raised.iter().find_map(credentials);
        let counted = raised.into_iter().map(|(key, blocked, ..)| (key, blocked));
        let counted = Counted(counted.collect());
        if is_complete {
            return Ok(Admission::Admitted(counted, found));
        }
        // Only some counters were raised: other attempts were counted at the same time.
        self.settle(attempt, &counted, Settlement::TakenBack)
            .await?;
        Ok(Admission::Refused {
            until: self.held_back_until(attempt).await?,
        })
    }

    /// Corrects the counters after an attempt that is no failure.
    pub async fn settle(
        &self,
        attempt: &Attempt<'_>,
        counted: &Counted,
        settlement: Settlement,
    ) -> Result<(), Error> {
        let rows = attempt.settled(counted, settlement);
        if rows.is_empty() {
            return Ok(());
        }
        let statement = Statement::settle(rows);
        with_conn!(self, conn => {
            (&statement).execute(conn).await?;
        })
    }

    async fn held_back_until(&self, attempt: &Attempt<'_>) -> Result<Timestamp, Error> {
        let keys: Vec<_> = attempt.counts().map(|count| count.key.to_vec()).collect();
        let rows: Vec<(Vec<u8>, i64, i64, i64, i64)> = with_conn!(self, conn => {
            login_throttle::table
                .filter(login_throttle::key_hash.eq_any(&keys))
                .select((
                    login_throttle::key_hash,
                    login_throttle::blocked_until,
                    login_throttle::day_failures,
                    login_throttle::day_ends_at,
                    login_throttle::known_until,
                ))
                .load(conn)
                .await?
        })?;
        let is_known = rows
            .iter()
            .any(|(key, .., known_until)| attempt.is_known_pair(key, *known_until));
        let holds_back = |key: &[u8]| !(is_known && is(attempt.account, key));
        let holding = rows.iter().filter(|(key, ..)| holds_back(key));
        let ends = holding.filter_map(|(_, blocked_until, day_failures, day_ends_at, _)| {
            let stored = StoredBlock {
                blocked_until: Timestamp::from_micros(*blocked_until),
                day_failures: *day_failures,
                day_ends_at: Timestamp::from_micros(*day_ends_at),
            };
            attempt.limits.held_until(stored, attempt.now)
        });
        // If the block has ended by now, the attempt may come again at once.
        Ok(ends.max().unwrap_or(attempt.now))
    }
}

impl Attempt<'_> {
    fn counts(&self) -> impl Iterator<Item = Count> {
        [self.account, self.pair, self.address]
            .into_iter()
            .flatten()
    }

    fn is_known_pair(&self, key: &[u8], known_until: i64) -> bool {
        is(self.pair, key) && known_until > self.now.as_micros()
    }

    /// Whether all necessary counters were raised.
    fn is_complete(&self, raised: &[Raised]) -> bool {
        let is_raised = |count: Count| raised.iter().any(|(key, ..)| *key == count.key);
        let is_known = raised
            .iter()
            .any(|(key, _, known_until, ..)| self.is_known_pair(key, *known_until));
        self.counts()
            .all(|count| is_raised(count) || (is_known && self.account == Some(count)))
    }

    fn settled(&self, counted: &Counted, settlement: Settlement) -> Vec<Row> {
        let taken_back = |(key, blocked_until): &(Vec<u8>, i64)| {
            Row::taken_back(key, self.limits.fade, *blocked_until, is(self.account, key))
        };
        let Settlement::Succeeded { known_until } = settlement else {
            return counted.0.iter().map(taken_back).collect();
        };
        let account = self.account.map(|count| {
            let is_counted = counted.0.iter().any(|(key, _)| *key == count.key);
            Row::cleared(&count.key, is_counted)
        });
        let pair = self.pair.map(|count| {
            let row = Row::cleared(&count.key, false);
            // Without an address the pair does not identify a caller.
            match self.address {
                Some(_) => row.known(known_until),
                None => row,
            }
        });
        let address = counted.0.iter().filter(|(key, _)| is(self.address, key));
        let address = address.map(taken_back);
        account.into_iter().chain(pair).chain(address).collect()
    }
}

fn is(count: Option<Count>, key: &[u8]) -> bool {
    count.is_some_and(|count| count.key == key)
}

fn credentials((.., id, hash, changed_at): &Raised) -> Option<Credentials> {
    Some(Credentials {
        user_id: (*id)?,
        password_hash: hash.clone()?,
        password_changed_at: (*changed_at)?,
    })
}
