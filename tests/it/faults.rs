//! What the service promises, while what it stands on is killed, stopped, frozen, cut,
//! filled up and replaced.
//!
//! Each test breaks something while clients work ([`customers`]), and then asks the same
//! questions ([`guarantee`]). The longer forms run when `TEST_SOAK` is set.

mod chaos;
mod crash_points;
mod customers;
mod database;
mod disk;
mod failover;
mod fleet;
mod guarantee;
mod lost_replies;
mod network;
mod outage;
mod paused;
mod pgbouncer;
mod replica;
mod rolling;
mod sqlite;
mod upgrade;

use crate::harness::soak;

/// How often something is done: so often, or ten times that in a soak.
fn rounds(short: u32) -> u32 {
    soak(short, 10 * short)
}
