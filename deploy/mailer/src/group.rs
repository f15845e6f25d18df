//! What librdkafka asks and reports about the consumer group.
//!
//! Before the group takes a partition away, and when the consumer is closed, its work is stopped:
//! attempts that have begun end, waiting mails are left to the next owner, and the progress is
//! committed.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    consumer::{
        BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
    },
    error::KafkaError,
    topic_partition_list::TopicPartitionListElem,
};
use tokio::{runtime::Handle, task::block_in_place, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{assignment::Assignment, settings};

/// The longest wait for attempts that have begun.
const GRACE: Duration = Duration::from_secs(20);

pub struct Group {
    pub assignment: Arc<Assignment>,
    pub topic: String,
}

/// Joins the group.
pub fn subscribe(
    settings: &settings::Kafka,
    assignment: &Arc<Assignment>,
) -> anyhow::Result<StreamConsumer<Group>> {
    let context = Group {
        assignment: Arc::clone(assignment),
        topic: settings.topic.clone(),
    };
    let consumer: StreamConsumer<_> = configured(&settings.client)
        .create_with_context(context)
        .context("Kafka's settings")?;
    consumer.subscribe(&[&settings.topic])?;
    Ok(consumer)
}

fn configured(client: &ClientConfig) -> ClientConfig {
    let mut client = client.clone();
    client
        // The progress is committed when mails were taken: see `Assignment`.
        .set("enable.auto.commit", "false")
        // A new group reads all mail requests that Kafka has. The service ends the old ones.
        .set("auto.offset.reset", "earliest")
        // Not a cooperative one, in which work goes on while partitions move: Kafka refuses the
        // commits of that time.
        .set("partition.assignment.strategy", "range")
        // People wait for mails: others take over 10 s after a mailer died.
        .set("session.timeout.ms", "10000")
        // librdkafka looks for a topic that does not exist yet only at this interval. The default
        // is 5 min.
        .set("topic.metadata.refresh.interval.ms", "10000");
    client
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        eprintln!("Kafka: {error}: {reason}");
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            self.release(consumer, list);
        }
    }
}

impl Group {
    fn release(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let numbers: Vec<_> = list
            .elements()
            .iter()
            .map(TopicPartitionListElem::partition)
            .collect();
        wait(&self.assignment.stop(&numbers));
        let commits = self.assignment.commits.lock();
        let _guard = block_in_place(|| Handle::current().block_on(commits));
        let list = self.assignment.remove(&self.topic, &numbers);
        // Lost partitions may already have another owner, whose progress this would take back.
        if list.count() == 0 || consumer.assignment_lost() {
            return;
        }
        if let Err(error) = consumer.commit(&list, CommitMode::Sync) {
            eprintln!("Kafka: cannot commit before the partitions go: {error}");
        }
    }
}

/// librdkafka calls from the thread that polls, which may be one of the runtime.
fn wait(tasks: &[TaskTracker]) {
    let all = async {
        for tasks in tasks {
            tasks.wait().await;
        }
    };
    let ended = block_in_place(|| Handle::current().block_on(timeout(GRACE, all)));
    if ended.is_err() {
        eprintln!("some mails are still being sent: they may be sent twice");
    }
}
