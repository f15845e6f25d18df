//! The memory that peers make the process keep, and its one bound.
//!
//! hyper and h2 read requests and keep unsent answers before and after any layer sees them, so
//! their own limits are per stream and per connection: some dozen connections could keep
//! hundreds of megabytes. `MeteredConnection` therefore follows the frames of each connection
//! (`Traffic`) and estimates what they keep in memory: open streams, header fields as
//! decompressed, bodies and unread answers. `Budget` is the bound for the sum over all
//! connections. A connection that needs more waits, unread, until the budget allows it.
//!
//! A peer that neither finishes its requests nor reads its answers would hold the budget for as
//! long as it likes. Such bytes count as stalled. When they fill a part of the budget, the
//! connection is closed that has had the most of them for a while (`Lasting`). Requests that
//! the service works on are not stalled: they end by themselves, at their deadline.

mod budget;
mod field_counter;
mod frame_reader;
mod lasting;
mod metered_connection;
mod peer_memory;
mod timer;
mod traffic;

pub(super) use self::{budget::Budget, metered_connection::MeteredConnection};
pub use self::{
    metered_connection::ConnectInfo,
    peer_memory::{PeerId, PeerMemory},
    traffic::{LONG_STREAM_BYTES, STREAM_BYTES},
};

/// What a connection keeps in memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    all: usize,
    /// The part that waits for the peer: for the rest of a request, or to be read.
    stalled: usize,
}
