//! The layers around the handlers. A call passes them in this order:
//!
//! 1. `observe` counts and traces it, also if another layer refuses it.
//! 2. `running` marks its connection as in use.
//! 3. `deadline` ends it at its deadline.
//! 4. `wipe_stack` overwrites what the inner layers and the handlers leave on the stack.
//! 5. `body_budget` bounds the memory that unfinished requests take.
//! 6. `tonic_errors` gives errors of tonic itself the form of our errors.

mod body_budget;
mod deadline;
mod methods;
mod observe;
mod running;
mod tonic_errors;
mod trace;
mod wipe_stack;

pub(super) use self::{
    body_budget::BodyBudget,
    deadline::{Deadline, end_at_deadline},
    observe::{Observer, observe},
    running::mark_running,
    tonic_errors::with_error_info,
    wipe_stack::Wiping,
};

type Request = http::Request<tonic::body::Body>;
type Response = http::Response<tonic::body::Body>;
