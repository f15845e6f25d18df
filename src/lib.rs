//! The identity core of a chat platform: accounts, sessions and tokens over gRPC.
//!
//! It issues tokens; a gateway validates them by itself, with the key from `GetSigningKey`.
//! So the service is asked only when somebody registers, logs in, refreshes, logs out or
//! changes the own account, and keeps nothing in memory that another replica would need:
//! accounts, sessions and unpublished events are in the database.
//!
//! ```text
//!            gRPC                                                       Kafka
//!             |                                                           ^
//!  +----------v----------+                                     +----------+----------+
//!  | grpc  message->call |       app: builds all of these,     | outbox    row->event|
//!  |       error->Status |       runs and drains them          |           lease      |
//!  +----------+----------+                                     +----------+----------+
//!             |                                                           |
//!  +----------v----------+        +---------------------+                 |
//!  | auth     use cases  +------->| password     bcrypt |                 |
//!  +----------+----------+        +---------------------+                 |
//!             |                                                           |
//!  +----------v-----------------------------------------------------------v----------+
//!  | db       one method, one unit of work; an act and its event in one transaction  |
//!  +---------------------------------------------------------------------------------+
//!                                   Postgres or SQLite
//! ```
//!
//! Dependencies point the way of the arrows. [`auth`] names neither tonic nor Diesel,
//! [`grpc`] no Diesel, [`db`] no tonic. There are two traits, [`model::Clock`] and
//! [`outbox::publisher::Publisher`]: what tests replace. The database is an enum.
//!
//! # A login, end to end
//!
//! 1. Layers in [`grpc`] count and trace the call and set its deadline: the caller's, at most
//!    `REQUEST_TIMEOUT`.
//! 2. `grpc::convert` parses the message: the e-mail, if it is one, to a [`model::Email`],
//!    the password to a [`password::Password`] that wipes its memory.
//! 3. [`auth::Auth::login`] counts the attempt, or refuses it after too many wrong ones, and
//!    looks the account up, by one statement.
//! 4. [`password::Hasher::verify`] queues for a lane, or refuses at once if the wait would
//!    be too long. An unknown user takes the same way, against a dummy hash.
//!    If the password is right, the attempt is no failure: the counts are cleared.
//! 5. A hash of another cost than the configured one is replaced.
//! 6. The session is drafted, with its refresh token and a signed access token: after the
//!    next step nothing may fail. Then [`db::Db::start_session`] writes its row, with hashes
//!    of the token only, unless the password was changed meanwhile.
//! 7. `grpc::convert` turns the result into the reply; `grpc::status` turns an
//!    [`auth::Error`] into a code and a reason, and logs a fault.
//!
//! A call of `AccountService` begins with [`auth::Auth::authenticate`], which checks the
//! access token and asks the database whether its session lives. What ends sessions is in
//! [`db`].
//!
//! # An event, end to end
//!
//! 1. [`auth::Auth::register`] drafts the event next to the account it announces.
//! 2. [`db::Db::register`] inserts both in one transaction. The bytes that Kafka will see are
//!    encoded there, once. Later events raise the user's version first, which locks the
//!    user's row, so that they are ordered.
//! 3. The commit wakes the [`outbox::Poller`] of this process; the others look every 200 ms.
//!    Only the one that holds the lease goes on.
//! 4. It reads the oldest rows and, outside any transaction, gives them to
//!    [`outbox::kafka::KafkaPublisher`]: each user in one partition, in order.
//! 5. What Kafka acknowledged is deleted. If the process dies before that, the next poller
//!    publishes the same bytes again, and consumers skip what they have seen.
//!
//! # To add an RPC
//!
//! The messages go into `proto/`, the use case into [`auth`] as one function of
//! [`auth::Auth`], what it keeps into [`db`] as one method (with the event, if there is
//! one, in its transaction: a message of `user_event.proto` and a variant of `auth`'s
//! `Event`), and the handler of a few lines into [`grpc`], with its
//! conversions in `grpc::convert` and its name in `grpc::observe`. A new way to fail is a
//! variant of [`auth::Error`]; the compiler then asks for its code in `grpc::status`. A
//! column comes with one migration of the same name in each folder of `migrations/`.

pub mod app;
pub mod auth;
pub mod config;
pub mod db;
#[cfg(test)]
mod floors;
pub mod grpc;
pub mod model;
pub mod outbox;
pub mod password;
pub mod stack;
pub mod telemetry;
pub mod tls;

/// The messages and services of `proto/`, as generated: only [`grpc`] and the payloads of
/// events in [`auth`] use them.
#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
