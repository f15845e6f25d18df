//! `auth-service edge`. Most tests drive it with a service that says what the test wants; `real`
//! has the same answers from a real one, and `gateways` has real gateways too.

mod answers;
mod client;
mod fake;
mod gateways;
mod link;
mod process;
mod real;
mod running;
mod sidecar;
mod staleness;
mod tls;
mod tokens;
mod watching;

pub use self::sidecar::Sidecar;
use self::{
    client::{Envoy, Http, Verdict},
    fake::{Call, FakeService, begin, end, heartbeat, session, user},
    link::Link,
    tokens::Tokens,
};
