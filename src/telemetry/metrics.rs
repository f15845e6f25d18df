//! What the service counts and measures, for `/metrics`.
//!
//! Each part of the service owns its group, counts by calling it, and knows no name: the
//! names are here. All series exist from the start, so that a rate over the first failure is
//! not lost. Label values come from fixed sets: no id, no address, nothing that a caller
//! chose.

mod auth;
mod db;
mod outbox;
mod password;
mod process;
mod rpc;
mod tls;

use std::hash::Hash;

use prometheus_client::{
    encoding::EncodeLabelValue,
    metrics::{counter::Counter, family::Family, info::Info},
    registry::Registry,
};

use self::process::Process;
pub use self::{
    auth::AuthMetrics,
    db::DbMetrics,
    outbox::OutboxMetrics,
    password::{Busy, PasswordMetrics, Waiting, Wanted},
    rpc::RpcMetrics,
    tls::TlsMetrics,
};

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<V> = Family<[(&'static str, V); 1], Counter>;

/// A registry with what is true of every process: which build, how much memory, ..
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let help = "The version that runs";
    registry.register("auth_build", help, Info::new(version));
    registry.register_collector(Box::new(Process));
    registry
}

fn counters<V>(label: &'static str, values: impl IntoIterator<Item = V>) -> Counters<V>
where
    V: EncodeLabelValue + Clone + Hash + Eq,
{
    let family = Counters::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

fn count(family: &Counters<&'static str>, label: &'static str, value: &'static str) {
    family.get_or_create(&[(label, value)]).inc();
}
