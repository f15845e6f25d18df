use bcrypt_lanes::Key;

use super::Password;

/// A password that matched its hash in [`Hasher::verify`](super::Hasher::verify).
pub struct Verified<'p> {
    pub(super) password: &'p Password,
    pub(super) needs_upgrade: bool,
}

impl Verified<'_> {
    /// Whether the hash has another cost than the configured one, or is one of the NFD form.
    pub const fn needs_upgrade(&self) -> bool {
        self.needs_upgrade
    }

    pub(super) fn key(&self) -> Key {
        self.password.key().expect("it matched a hash")
    }
}
