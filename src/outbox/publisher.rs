//! The interface between the outbox and Kafka. Tests replace it.
//!
//! A call never fails as a whole: it reports for each event whether Kafka has it. A refused
//! record is parked; after a fault of the environment the event is tried again.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::model::PendingEvent;

pub trait Publisher: Send + Sync {
    /// Publishes `events`: in this order within a partition, several partitions in parallel.
    /// After an event or its time is refused, later ones of its user are left out. A partition
    /// that had a fault is not used until the pass ends.
    ///
    /// No request is sent that could outlive the lease. Events for which there is no time
    /// are left out, without a fault.
    fn publish<'a>(
        &'a self,
        events: &'a [PendingEvent],
        batch: BatchInPass,
        lease_end: Instant,
    ) -> BoxFuture<'a, Published>;
}

/// The position of a batch in its pass over the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchInPass {
    /// Partitions that had a fault in the last pass are tried again.
    First,
    Later,
}

/// The result for each event. An event in neither list is still to be published; after a fault,
/// Kafka may already have it.
#[derive(Debug, Default)]
pub struct Published {
    /// Row ids.
    pub acknowledged: Vec<i64>,
    /// The row ids of events whose record Kafka will never take (too large, invalid), and why.
    pub refused: Vec<(i64, String)>,
    /// The row ids of events whose time Kafka refused: too far ahead of its clock, or too old.
    /// Its answer does not say which.
    pub untimely: Vec<i64>,
    pub fault: Option<PublishError>,
    /// Whether the whole cluster was unreachable, so that other events would fail too.
    pub unreachable: bool,
}

impl Published {
    pub fn unreachable(fault: PublishError) -> Self {
        Self {
            fault: Some(fault),
            unreachable: true,
            ..Self::default()
        }
    }

    /// The number of events of which Kafka took or refused the record.
    pub fn settled(&self) -> usize {
        self.acknowledged.len() + self.refused.len() + self.untimely.len()
    }

    pub fn merge(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.refused.extend(other.refused);
        self.untimely.extend(other.untimely);
        self.fault = self.fault.take().or(other.fault);
    }
}

/// A fault of the environment: Kafka cannot take records now, but later it may.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// We never create the topic: its partitions and retention are the operator's choice.
    #[error("the topic {0} does not exist, or its ACLs hide it from us")]
    TopicMissing(String),
    /// No broker answers, a partition has no leader, or the login was refused.
    #[error("cannot connect to Kafka: {0}")]
    Connect(Arc<rskafka::client::error::Error>),
    /// The broker did not take the records, for a reason that is not in the records.
    #[error("cannot publish to Kafka: {0}")]
    Produce(Arc<rskafka::client::error::Error>),
    #[error("Kafka did not answer within {0:?}")]
    Timeout(Duration),
}
