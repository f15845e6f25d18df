//! The layers around the handlers. A call passes them in this order:
//!
//! 1. `observe` counts and traces it, also if another layer refuses it.
//! 2. `running` marks its connection as in use.
//! 3. `answers` takes the answer only as fast as the peer reads it.
//! 4. `deadline` ends it at its deadline.
//! 5. `server_streams` bounds the number and the length of streams.
//! 6. `wipe_stack` overwrites what the inner layers and the handlers leave on the stack.
//! 7. `body_budget` bounds the memory that large unfinished requests take.
//! 8. `tonic_errors` gives errors of tonic itself the form of our errors.

mod answers;
mod body_budget;
mod deadline;
mod methods;
mod observe;
mod open_streams;
mod running;
mod server_streams;
mod tonic_errors;
mod trace;
mod wipe_stack;

pub(super) use self::{
    answers::metered_answers,
    body_budget::BodyBudget,
    deadline::{Deadline, end_at_deadline},
    observe::{Observer, observe},
    running::mark_running,
    server_streams::{ServerStreams, bounded_streams},
    tonic_errors::{unreadable, with_error_info},
    trace::Spans,
    wipe_stack::Wiping,
};

type Request = http::Request<tonic::body::Body>;
type Response = http::Response<tonic::body::Body>;
