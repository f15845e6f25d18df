//! How much guessing is let through.

use std::time::Duration;

/// How many attempts may fail, and how long the others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Free failures of an account at one caller address, or without any.
    pub free_per_pair: u32,
    /// Free failures of an account.
    pub free_per_account: u32,
    /// Free failures of a caller address.
    pub free_per_address: u32,
    /// Free registrations of a caller address.
    pub registrations_per_address: u32,
    /// Failures of an account that reach a hash in a day.
    pub daily_per_account: u32,
    /// The wait once the free failures are used up; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// How long it takes until one failure is forgotten.
    pub fade: Duration,
    /// How long a pair is known after a login.
    pub known_for: Duration,
}

impl ThrottleLimits {
    /// How long it takes until the most free failures of any kind are forgotten.
    #[must_use]
    pub fn longest_fade(&self) -> Duration {
        let most = self
            .free_per_pair
            .max(self.free_per_account)
            .max(self.free_per_address)
            .max(self.registrations_per_address);
        self.fade * most
    }
}
