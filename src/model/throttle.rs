use std::time::Duration;

/// How many attempts may fail without a wait, and how long the wait is after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Free failures of an account from one caller address, or without an address.
    pub free_per_pair: u32,
    /// Free failures of an account.
    pub free_per_account: u32,
    /// Free failures from a caller address.
    pub free_per_address: u32,
    /// Free registrations from a caller address.
    pub registrations_per_address: u32,
    /// Failures of an account that reach a hash in one day.
    pub daily_per_account: u32,
    /// The wait after the free failures. Each further failure doubles it.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// The time in which one failure is forgotten.
    pub fade: Duration,
    /// How long a pair of account and address is known after a login.
    pub known_for: Duration,
}

impl ThrottleLimits {
    /// The time after which every counter is back at zero.
    pub fn longest_fade(&self) -> Duration {
        let per_account = self.free_per_pair.max(self.free_per_account);
        let per_address = self.free_per_address.max(self.registrations_per_address);
        self.fade * per_account.max(per_address)
    }
}
