//! The tools of operators: metrics, traces, the audit log, housekeeping, migrations and `deploy/`.

mod audit;
mod blocklist;
mod deploy;
mod flood;
mod housekeeping;
mod metrics;
mod migrations;
mod traces;
