//! What operators use: metrics, traces, the audit log, housekeeping, migrations, `deploy/`.

mod audit;
mod blocklist;
mod deploy;
mod housekeeping;
mod metrics;
mod migrations;
mod traces;
