//! Publishes committed events to Kafka: at least once, and in order per user.
//!
//! An act inserts its events into the outbox in its own transaction. The [`Poller`] reads
//! them, gives them to the [`Publisher`](publisher::Publisher), and deletes those that Kafka
//! acknowledged. This page specifies the protocol and its terms, including faults.
//!
//! # A tick
//!
//! 1. Take or renew the lease. If another replica holds it, this one stands by.
//! 2. Read a batch: the next 1,000 events by row id, without those of users who have a parked
//!    event or one that waits for Kafka's clock. Put each user's events in order, and leave out
//!    those that must wait for an earlier one.
//! 3. Publish it outside any transaction. Each partition has a queue, which sends one produce
//!    request after the other. At most 16 run in parallel, each with a connection of its own;
//!    the others wait for their turn.
//! 4. Delete the rows of the acknowledged events, and park or postpone the refused ones.
//!
//! A crash before step 4 leaves the rows. The next tick, in this process or in another,
//! publishes them again, byte for byte the same.
//!
//! # A pass over the backlog
//!
//! After a full batch the next tick reads on after its last row, the resume position. These ticks
//! are one pass: one attempt for each event, however many batches it takes. Two reasons:
//! - The oldest events may all belong to a partition that does not work, while the others do.
//! - An index keeps the entries of deleted rows for a while. A tick that began with the lowest id
//!   would read over those of all batches before.
//!
//! A pass begins with the lowest row id. It ends with its first fault as the error of the tick,
//! when the backlog is read to its end or the whole cluster is unreachable. It also ends when
//! the database fails or the lease is lost. The next pass begins after a back-off. Without a fault
//! it also ends after a second, or when there was no time for an event of the batch, and the next
//! one begins at once.
//!
//! Row ids come from a sequence, and only divide the backlog into batches. A transaction may
//! commit long after it drew its id, and a connection may have drawn a hundred of them in
//! advance. An event whose id is below the resume position is read by the next pass.
//!
//! # Order per user
//!
//! No event is sent while an earlier event of its user is unpublished. The number of an event,
//! `user_version`, decides which one is earlier; the row id never does:
//! - Each act locks the user's row and raises its version. When an event is visible, all
//!   earlier ones of its user are visible too, unless they are published.
//! - The statement that reads a batch returns with each event the version of the user's event
//!   before it in the outbox, by an index on user and version. An event goes only if that one
//!   goes before it in the same batch, or if there is none.
//! - If a user's first event has a higher id than the batch, it is read as well. A user whose
//!   later events have the lowest ids thus neither waits nor fills the batches for nothing. If
//!   it has an id up to the resume position, the user waits for the next pass.
//! - A user's events go to one partition. A partition queue sends the next request after the
//!   last one was acknowledged. At a fault it stops, and the partition is closed until the pass
//!   ends.
//! - After a refused event, the later ones of its user are left out.
//!
//! # Faults
//!
//! Faults of the environment are retried without end: they never lose or park an event.
//! - **One partition or its leader** is away: its queue fails or times out. Since the
//!   partition is then closed, a pass pays for the time-out once, not once a batch. The other
//!   partitions go on.
//! - **The whole cluster** is unreachable (no broker answers, the login is refused, the topic
//!   does not exist): the pass ends at once, as all other events would fail too.
//! - After any of these the next pass opens a new connection, with all partitions. A
//!   connection is also replaced when it is three minutes old.
//!
//! **Slow start.** On a new connection, the first request of each queue is one record, the
//! next at most two, four, .., until a batch was acknowledged without a fault. A broker may
//! store records that it does not acknowledge: its replicas are gone, or a quota throttles
//! us. Each attempt then leaves a copy of only one record for each partition. Even a quota of
//! one record per longest back-off publishes all events in the end.
//!
//! **A refused record.** Kafka refuses a request because of a record in it (too large,
//! invalid), and would do so again. Its records are then sent one by one, which finds that
//! record. Its event is parked and holds up the later events of its user, and no others,
//! until an operator requeues or discards it.
//!
//! **A refused time.** Kafka refuses a record whose time is too far ahead of its clock: the
//! clock of a replica was ahead. Waiting heals it. The event is tried again every 10 s by the
//! database's clock, and holds up only the later events of its user. If it happened more than a
//! day ago, it was refused because it is too old, and is parked.
//!
//! # The lease
//!
//! It lasts 15 s by the database's clock, and is renewed when less than 12 s are left. No
//! request is sent that could outlive it; events for which there is no time wait for the next
//! pass. A poller that loses it in the middle (a paused process) can cause duplicates, but not
//! a wrong order: the rules above do not depend on the lease. A lease that ends later than one
//! can was written when that clock was ahead, and counts as ended.
//!
//! # Waiting
//!
//! After progress the next tick follows at once, after an idle one with the next commit in
//! this process or after 200 ms, in standby after 1 s. After an error it follows after a
//! random back-off, whose cap doubles with each error up to 30 s; a commit does not shorten
//! it. On shutdown a tick may go on for 5 s; then the lease is released.

pub mod backoff;
mod faults;
pub mod kafka;
mod lease;
mod metrics;
pub mod partition;
mod pass;
mod poller;
pub mod publisher;

pub use self::{
    metrics::Metrics,
    poller::{Error, Outcome, Poller},
};
