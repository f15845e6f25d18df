//! The helpers of the integration tests.
//!
//! | A test that .. | uses |
//! |---|---|
//! | calls the service | [`both!`] with a [`Service`]: in this process, on an empty SQLite and an empty Postgres database |
//! | sets options, starts a second replica, builds the `App` itself | [`Service::start`], [`Service::start_at`], [`build`] |
//! | moves the time | [`Service::clock`], a [`ManualClock`] |
//! | acts as support staff | [`admin`] |
//! | imports users | [`import`], [`ImportStream`], [`row`]; [`outcomes`] |
//! | needs accounts or sessions | [`Service::sign_up`], [`Service::sign_in`]; [`Service::account`] is the client of a signed-in user |
//! | sends a request | [`register`], [`login`], [`refresh`], [`logout`].. build it |
//! | expects an error | [`refused`], then [`reason`], [`error_line`], [`violation`], [`retry_after`], [`assert_invalid_token`] or [`assert_outage`] |
//! | asks for keys or sends a token | [`signing_keys`], [`with_bearer`] |
//! | changes or breaks a refresh token | [`TokenParts`], [`malformed_tokens`]; [`subkey_of`] |
//! | reads rows or events | [`TestDatabase`]: `count`, `text`, `dump`, `events`; `hex`, `id`, `bytes`, `time` and `dialect` hide the differences between the databases |
//! | reads password hashes | [`TestDatabase`]: `password_hash`, `stored_hash`; [`open_seal`] |
//! | calls the storage layer without a service | [`db`] |
//! | counts the SQL statements of a call | [`Statements`], filled by [`Proxy::recording`] |
//! | is about the command line, signals, exit codes, files or the log | [`Process`], also as process 1 and on a terminal; [`settings`] has the variables, each written once |
//! | waits for something outside the service | [`eventually`] |
//! | publishes to Kafka | [`Kafka`]: a topic of its own on the shared broker |
//! | breaks Kafka | [`Cluster`]: two brokers of its own |
//! | checks what was published | [`Published::check`] |
//! | breaks the network to the database | [`Proxy`], and [`Trap`] for one exact point |
//! | has the database roll units of work back | [`Conflicts`] |
//! | has a call wait for a lock on a row | [`Held`] |
//! | stops, kills, freezes or replaces Postgres | [`PostgresServer`]: a server of its own; [`PgBouncer`] in front of it |
//! | lets a cluster of Postgres fail over by itself | [`PatroniCluster`] |
//! | sends what no gRPC client sends | [`RawConnection`]: any headers and bodies; [`Frames`]: any HTTP/2 frames; [`BareConnection`]: a gRPC client that never reconnects |
//! | searches memory, logs or files for secrets | [`Needles`], [`memory_of`] |
//! | needs certificates | [`Authority`] |
//! | needs random input | [`Random`]: prints its seed, and `TEST_SEED` repeats it; [`check_cases`] runs a property test |
//! | can run for longer | [`soak`]: the second value when `TEST_SOAK` is set |
//! | lacks something on this machine | [`skip`]: prints a line, and fails in CI |
//!
//! With `TEST_HOSTILE=1` (`tests/run hostile`) each Postgres database is a hostile one: see
//! `database`. [`TestDatabase::url`] then leads through [`Conflicts`], and
//! [`TestDatabase::direct_url`] does not.
//!
//! Some folders have more helpers of their own: `faults` has a fleet of replicas and clients
//! that repeat their calls, `outbox` a publisher that answers as the test says, `attack` a
//! process under attack.

mod answers;
mod bare;
mod clock;
mod conflicts;
mod database;
mod frames;
mod guarantee;
mod held;
mod imports;
mod kafka;
mod kafka_server;
mod password_hashes;
mod patroni;
mod pgbouncer;
mod pki;
mod postgres_server;
mod probes;
mod process;
mod process_memory;
mod proxy;
mod random;
mod raw;
mod requests;
mod rows;
mod service;
mod sessions;
mod settings;
mod watch;
mod wire;

use std::io::Write as _;

pub use self::{
    answers::{
        assert_invalid_token, assert_outage, assert_wrong_password, error_line, reason, refused,
        retry_after, violation,
    },
    bare::BareConnection,
    clock::ManualClock,
    conflicts::Conflicts,
    database::{Backend, TestDatabase},
    frames::{DATA, Frames, PREFACE, call_but_its_end, cancelled_call, end_of_call, frame},
    guarantee::{Copy, Published},
    held::{Held, WAITING},
    imports::{
        IMPORT_USERS, IMPORTER, ImportStream, body_of, import, outcome, outcomes, row, rows,
        rows_of_a_stream,
    },
    kafka::{Kafka, Record},
    kafka_server::Cluster,
    password_hashes::open_seal,
    patroni::PatroniCluster,
    pgbouncer::PgBouncer,
    pki::{Authority, Pem},
    postgres_server::{PostgresServer, free_port},
    probes::{eventually, probe},
    process::{Ended, Process, without_capabilities},
    process_memory::{Needles, memory_of},
    proxy::{Proxy, Trap},
    random::{Random, check_cases, soak},
    raw::{Answer, RawConnection, framed},
    requests::{
        PASSWORD, bearer, change_password, change_password_from, delete_account, end_session,
        login, logout, refresh, register, signing_keys, with_bearer,
    },
    rows::{EVENTS, PARKED, USERS, bytes_of, hex_of},
    service::{START, Service, build, config, connect, connect_without_window, db},
    sessions::{
        Account, Admin, Session, TokenParts, account, admin, crc32, data_subkey, hmac,
        insert_sessions, malformed_tokens, subkey_of,
    },
    settings::{DATA_KEY, FREE_PORTS, GATEWAY, INTERNAL_TOKEN, JWT_SECRET, NO_THROTTLE, settings},
    watch::{Revoked, SOON, Watch, revoked},
    wire::Statements,
};

/// Defines tests that run on SQLite and on Postgres. The argument of a test is a [`Service`]
/// with the default options, a [`TestDatabase`], or another type that is [`OnBackend`].
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($arg:ident: $type:ty) $body:block)+) => {$(
        mod $name {
            #[allow(clippy::allow_attributes, unused_imports, reason = "not every test needs all")]
            use super::*;

            $(#[$meta])*
            async fn test($arg: $type) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                use crate::harness::{Backend, OnBackend};
                if let Some(fixture) = <$type as OnBackend>::on(Backend::Sqlite).await {
                    test(fixture).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                use crate::harness::{Backend, OnBackend};
                if let Some(fixture) = <$type as OnBackend>::on(Backend::Postgres).await {
                    test(fixture).await;
                }
            }
        }
    )+};
}
pub(crate) use both;

/// The type of an argument of a test of [`both!`].
pub trait OnBackend: Sized {
    /// `None` if this machine has no such backend; then the test was [skipped](skip).
    async fn on(backend: Backend) -> Option<Self>;
}

impl OnBackend for TestDatabase {
    async fn on(backend: Backend) -> Option<Self> {
        Self::create(backend).await
    }
}

/// Prints that a test is skipped. In CI that is a failure.
pub fn skip(missing: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{missing}, and in CI no test is skipped"
    );
    // The test runner hides the output of `eprintln!` when a test passes.
    writeln!(std::io::stderr(), "SKIPPED: {missing}; tests/run starts it").expect("stderr");
}
