//! Units of work that the database rolled back because of another one are run again.
//!
//! Postgres answers 40001 (`serialization_failure`) or 40P01 (`deadlock_detected`), and so do
//! databases that speak its protocol. Both mean that nothing was written, also at a COMMIT
//! (<https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html>). After a
//! lost connection the result is unknown, and nothing is run again. SQLite needs no retries: it
//! waits for its only lock itself.
//!
//! A compare-and-set that lost its race pauses in the same way, on both databases.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as Query};
use tokio::time::{Instant, sleep};

use super::{Error, metrics::Metrics};

/// The longest wait before the first retry: some statements of the other transaction.
const FIRST: Duration = Duration::from_millis(4);

/// The longest wait before any retry, so that a unit of work has many within its deadline.
const LONGEST: Duration = Duration::from_millis(128);

/// Why the database rolled a unit of work back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    Serialization,
    Deadlock,
}

impl Conflict {
    pub(super) const ALL: [Self; 2] = [Self::Serialization, Self::Deadlock];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Serialization => "serialization",
            Self::Deadlock => "deadlock",
        }
    }

    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Query(Query::DatabaseError(kind, about)) => match kind {
                DatabaseErrorKind::SerializationFailure => Some(Self::Serialization),
                // Diesel drops the code of this error. The text is English unless the server's
                // `lc_messages` is not.
                DatabaseErrorKind::Unknown if about.message().contains("deadlock detected") => {
                    Some(Self::Deadlock)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// The retries of one unit of work.
pub(super) struct Retries<'a> {
    deadline: Instant,
    metrics: &'a Metrics,
    count: u32,
}

impl<'a> Retries<'a> {
    pub(super) fn new(deadline: Instant, metrics: &'a Metrics) -> Self {
        Self {
            deadline,
            metrics,
            count: 0,
        }
    }

    /// Waits before the next attempt. Returns the error if there is none: the work did not fail
    /// because of a conflict, or there is no time left.
    pub(super) async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        let Some(conflict) = Conflict::of(&error) else {
            return Err(error);
        };
        let pause = pause(self.count);
        if Instant::now() + pause >= self.deadline {
            return Err(error);
        }
        self.count += 1;
        self.metrics.retried(conflict);
        sleep(pause).await;
        Ok(())
    }
}

/// The races that a compare-and-set has lost.
pub(super) struct LostRaces {
    pub(super) deadline: Instant,
    count: u32,
}

impl LostRaces {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            deadline: Instant::now() + longest,
            count: 0,
        }
    }

    /// Waits before the next attempt, if there is time for one.
    pub(super) async fn wait_after_one(&mut self) -> Result<(), Error> {
        let pause = pause(self.count);
        if Instant::now() + pause >= self.deadline {
            return Err(Error::Timeout);
        }
        self.count += 1;
        sleep(pause).await;
        Ok(())
    }
}

/// The wait after this many retries: random, so that two transactions that collided do not
/// collide again.
fn pause(retries: u32) -> Duration {
    pause_by(retries, getrandom::u32().unwrap_or(u32::MAX))
}

/// `random` is uniform over all `u32`.
fn pause_by(retries: u32, random: u32) -> Duration {
    let cap = FIRST
        .saturating_mul(2_u32.saturating_pow(retries))
        .min(LONGEST);
    cap.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: DatabaseErrorKind, message: &str) -> Error {
        Error::Query(Query::DatabaseError(kind, Box::new(message.to_owned())))
    }

    #[test]
    fn only_errors_after_which_nothing_is_written_are_conflicts() {
        use DatabaseErrorKind::{SerializationFailure, UnableToSendCommand, Unknown};
        for message in [
            "could not serialize access due to concurrent update",
            "restart transaction: TransactionRetryWithProtoRefreshError",
            "Operation expired: Transaction aborted: kAborted",
        ] {
            let conflict = Conflict::of(&failed(SerializationFailure, message));
            assert_eq!(conflict, Some(Conflict::Serialization), "{message}");
        }
        let deadlock = Conflict::of(&failed(Unknown, "deadlock detected"));
        assert_eq!(deadlock, Some(Conflict::Deadlock));
        for error in [
            failed(Unknown, "canceling statement due to statement timeout"),
            failed(UnableToSendCommand, "connection closed"),
            Error::Query(Query::RollbackTransaction),
            Error::Timeout,
        ] {
            assert_eq!(Conflict::of(&error), None, "{error:?}");
        }
    }

    #[test]
    fn the_longest_wait_doubles_with_each_retry_up_to_the_maximum() {
        let longest = [0, 1, 2, 5, 6, u32::MAX].map(|retries| pause_by(retries, u32::MAX));
        assert_eq!(
            longest,
            [4, 8, 16, 128, 128, 128].map(Duration::from_millis)
        );
        assert_eq!(pause_by(3, 0), Duration::ZERO);
    }
}
