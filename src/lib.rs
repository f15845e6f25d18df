//! The identity core of a chat platform: accounts, sessions and tokens over gRPC.
//!
//! The service issues tokens. A gateway validates access tokens by itself, with the keys and the
//! revocations that it has from `EdgeService.Watch`, so a call reaches this service only to
//! register, log in, refresh, log out or change an account. The command `edge` is that validator
//! as a process beside a gateway. All state is in the database: accounts, sessions, revocations
//! and unpublished events. Any number of replicas can share it.
//!
//! ```text
//!             gRPC                                                      Kafka
//!              |                                                          ^
//!   +----------v----------+       app: builds all parts,       +----------+----------+
//!   | grpc  message->call |       runs them, drains them       | outbox   row->record|
//!   |       error->Status |       config: text->settings       |          lease      |
//!   +----------+----------+                                    +----------+----------+
//!              |                                                          |
//!   +----------v----------+       +---------------------+                 |
//!   | auth      use cases +------>| password     bcrypt |                 |
//!   +----------+----------+       +---------------------+                 |
//!              |                                                          |
//!   +----------v----------------------------------------------------------v----------+
//!   | db     one method, one unit of work; an act and its events in one transaction   |
//!   +---------------------------------------------------------------------------------+
//!                                 Postgres or SQLite
//!
//!   edge                          a process of its own: checks access tokens beside a gateway
//!   telemetry, tls                log, audit, traces; certificates
//!   model                         ids, time, e-mail, tokens, sessions, events: no I/O
//! ```
//!
//! A part uses only parts on lower floors: `floors.rs` lists the floors and tests this.
//! [`auth`] names neither tonic nor Diesel, [`grpc`] no Diesel, [`db`] no tonic. Each part
//! defines its settings; [`config`] fills them in. There are two public traits, which tests
//! replace: [`model::Clock`] and [`outbox::publisher::Publisher`]. The database is an enum.
//!
//! # A login, end to end
//!
//! 1. The layers of [`grpc`] count and trace the call and set its deadline: the caller's, at
//!    most `REQUEST_TIMEOUT`.
//! 2. The handler parses the message: the e-mail to a [`model::Email`] if it is valid, the
//!    password to a [`password::Password`] that wipes its memory.
//! 3. [`auth::Auth::login`] refuses the call if the hash would have to wait too long. It looks the
//!    account up and sees whether the device token is genuine. The attempt is then counted: for a
//!    known device alone, or for the account and the networks. After too many failures it is
//!    refused here. [`model::Counter`] has the rules, and [`db::Db::count`] settles races.
//! 4. The stored hash is opened with `DATA_KEY`, and [`password::Hasher::verify`] waits for a hash
//!    lane; known devices go first. An unknown user gets a dummy hash, so that the time is the
//!    same; so does a stored hash of a low cost. A password that Unicode also writes in decomposed
//!    form is compared in both. A call that ends before its hash began, and a right password, take
//!    the count back.
//! 5. If the stored hash has another cost than the configured one, or is one of the decomposed
//!    form, it is replaced.
//! 6. The session is drafted with its refresh token, a signed access token and the next device
//!    token, because nothing may fail after the next step. Then [`db::Db::start_session`] writes
//!    its row, which holds only hashes of the token, unless the password was changed meanwhile.
//!    It also ends the oldest sessions of a user with too many, and writes the event of the start
//!    if such events are wanted.
//! 7. The handler turns the result into the reply. `grpc::status` turns an [`auth::Error`] into
//!    a code and a reason, and logs a fault.
//!
//! Each call of `AccountService` needs [`auth::Auth::authenticate`], which checks the access
//! token and asks the database whether its session lives. Acts that end sessions are in
//! `db::revocations`.
//!
//! `AdminService` and the command `users` run the use cases of [`auth::Admin`], which needs neither
//! a password nor a session; `db::admin` has their statements.
//!
//! # A forgotten password, end to end
//!
//! 1. [`auth::Auth::request_password_reset`] counts the request, and [`db::Db::request_mail_to`] writes
//!    it with an event, without the address. An unknown address costs the same, and the answer
//!    waits for the next tenth of a second.
//! 2. The platform's mailer reads the event and calls [`auth::Auth::claim_mail`], which makes a
//!    [`model::MailToken`] and stores its hash.
//! 3. [`auth::Auth::reset_password`] looks the token up before it pays a hash. [`db::Db::reset_password`]
//!    replaces the password, ends all sessions and deletes the request: of two uses of its tokens
//!    one finds it gone.
//!
//! The mails of a verification and of a change of the address take the same way:
//! [`auth::Auth::confirm_email`] and [`auth::Auth::revert_email`] are their last steps.
//!
//! # An event, end to end
//!
//! 1. [`auth::Auth::register`] drafts a [`model::Event`] beside the account that it announces.
//! 2. [`db::Db::register`] inserts both in one transaction. The event is encoded there, once,
//!    with its version. Later acts update the user's row first and raise its version, which
//!    orders the events of one user.
//! 3. Only the replica that holds the lease publishes. A commit wakes its [`outbox::Poller`] at
//!    once; commits of other replicas are seen within 200 ms.
//! 4. The poller reads a batch of rows and, outside any transaction, gives them to
//!    [`outbox::kafka::KafkaPublisher`], which sends each user's events to one partition, in
//!    order.
//! 5. Acknowledged events are deleted. If the process dies before that, the next poller
//!    publishes the same bytes again, and consumers skip the copies.
//!
//! # A logout, at the gateway
//!
//! 1. [`auth::Auth::logout`] ends the session. Its event and its row of `revocations` are written in
//!    the same transaction, as by every act that ends sessions.
//! 2. The commit wakes [`auth::Revocations`], which reads what is new. Other replicas read every
//!    tenth of a second.
//! 3. Each stream of `EdgeService.Watch` sends it to its gateway.
//! 4. There [`edge::Watcher`] adds it to the [`edge::Knowledge`], and the next request with a token
//!    of that session is refused.
//!
//! # Where to add something
//!
//! - **An RPC**: its messages in `proto/`, its use case in [`auth`] (one file), its statements in
//!   [`db`] (one method), its handler and the conversions of its messages in the service's file
//!   in [`grpc`]. `grpc::convert` holds only the fields that services share. Metrics, traces and
//!   reflection read the name of the method from the embedded descriptors. A new way to fail is
//!   a variant of [`auth::Error`]; the compiler then asks for its code in `grpc::status`.
//! - **An event**: a message in `user_event.proto`, a variant of [`model::Payload`], and the act
//!   that causes it.
//! - **A variable**: its declaration in [`config`] and its use by the part that owns the setting.
//! - **A metric**: a field in the `metrics.rs` of its part, and its use.
//! - **A table or column**: a migration of the same name in each folder of `migrations/`,
//!   `db::schema`, and the method of [`db`] that uses it.

pub mod app;
pub mod auth;
pub mod config;
pub mod db;
pub mod edge;
#[cfg(test)]
mod floors;
pub mod grpc;
pub mod model;
pub mod outbox;
pub mod password;
pub mod telemetry;
pub mod tls;

/// The messages and services of `proto/`, as generated. Only [`grpc`] and the payloads of
/// events in [`model`] use them.
#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("realchat.auth.v1");
}
