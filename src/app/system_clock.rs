use chrono::Utc;

use crate::model::{Clock, Timestamp};

#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only reader of this clock")]
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(Utc::now().timestamp_micros())
    }
}
