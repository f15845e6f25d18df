//! Where the poller hands events to the outside: the seam between outbox and Kafka.
//!
//! A call never fails as a whole. It says of each event whether it arrived, and tells two
//! kinds of trouble apart, because they are treated differently: a record that the broker
//! will never take is parked, an environment that does not work is waited for.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::model::PendingEvent;

/// Takes events to whoever consumes them.
pub trait Publisher: Send + Sync {
    /// Publishes `events`, which are oldest first: in this order within a partition, the
    /// partitions in parallel. Once an event is refused, later ones of its user are left out.
    ///
    /// If the try goes on that the call before was part of, what failed there is left alone.
    ///
    /// Starts nothing that could outlive `until`, when the poller's lease ends: what there
    /// is no time for is left out, without a fault.
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        part: Part,
        until: Instant,
    ) -> BoxFuture<'a, Published>;
}

/// Which part of a try to publish a backlog a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What did not work before may work again.
    First,
    /// The batch after the one before.
    Next,
}

/// What became of the events. One that is in neither list is still to be published; it may
/// have arrived all the same, if there was a fault.
#[derive(Debug, Default)]
pub struct Published {
    /// The ids of the rows that will never have to be published again.
    pub acknowledged: Vec<i64>,
    /// The rows whose record the broker will never take (too large, invalid), and why.
    pub refused: Vec<(i64, String)>,
    /// Why the rest was not published, if the environment is to blame.
    pub fault: Option<PublishError>,
    /// Whether that is because nothing could be reached: other events would fare no better.
    pub out_of_reach: bool,
}

impl Published {
    /// Nothing was published, because of this.
    #[must_use]
    pub fn failed(fault: PublishError) -> Self {
        Self {
            fault: Some(fault),
            out_of_reach: true,
            ..Self::default()
        }
    }

    /// Adds what became of other events.
    pub fn merge(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.refused.extend(other.refused);
        self.fault = self.fault.take().or(other.fault);
    }
}

/// The environment does not let us publish now; later it may.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no such topic, and we never make one: its partitions and retention are the
    /// operator's choice.
    #[error("the topic {0} does not exist, or its ACLs hide it from us")]
    TopicMissing(String),
    /// No broker can be reached, or it does not let us in.
    #[error("cannot connect to Kafka: {0}")]
    Connect(Arc<rskafka::client::error::Error>),
    /// The broker did not take the records, for a reason that is not theirs.
    #[error("cannot publish to Kafka: {0}")]
    Produce(Arc<rskafka::client::error::Error>),
    /// Nothing was heard for this long.
    #[error("Kafka did not answer within {0:?}")]
    Timeout(Duration),
}
