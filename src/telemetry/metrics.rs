//! The registry behind `/metrics`, and what the groups of metrics share.
//!
//! Each part of the service defines and registers its own metrics. All series exist from the
//! start, so that a rate over the first failure is not lost. The series of the RPCs are too many
//! for that: each appears with its first call. Label values come from fixed sets: no id, no
//! address, nothing that a caller chose.

#[cfg(target_os = "linux")]
mod process;

use std::hash::Hash;

use prometheus_client::{
    encoding::EncodeLabelValue,
    metrics::{counter::Counter, family::Family, info::Info},
    registry::Registry,
};

pub(crate) type Labels<const N: usize> = [(&'static str, &'static str); N];
pub(crate) type Counters<V> = Family<[(&'static str, V); 1], Counter>;

/// A registry with the metrics that every process has: build and resources.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let help = "The version that runs";
    registry.register("auth_build", help, Info::new(version));
    #[cfg(target_os = "linux")]
    registry.register_collector(Box::new(process::Process));
    registry
}

/// One counter for each of these values of `label`.
pub(crate) fn counters<V>(label: &'static str, values: impl IntoIterator<Item = V>) -> Counters<V>
where
    V: EncodeLabelValue + Clone + Hash + Eq,
{
    let family = Counters::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

pub(crate) fn count(family: &Counters<&'static str>, label: &'static str, value: &'static str) {
    family.get_or_create(&[(label, value)]).inc();
}
