use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Whether a hash began: a lane took it. The caller makes it and keeps a clone.
///
/// After the future of the hash has ended or was dropped, the answer is final: a hash that had
/// no lane by then left the queue and never begins. Both happen under the lock of the queue, so
/// the order of memory accesses needs no other guarantee.
#[derive(Clone, Debug, Default)]
pub struct Began(Arc<AtomicBool>);

impl Began {
    pub fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Relaxed);
    }
}
