//! bcrypt (Provos and Mazieres 1999), several hashes at a time.
//!
//! **What is computed.** Blowfish's state is 18 subkeys and four S-boxes of 256 words; it
//! begins as the digits of pi. *Expanding* a key into it means: XOR the key's words into the
//! subkeys, then encrypt a block of zeros again and again, 521 times, with the state as it is
//! by then: each result is the next block and replaces the next two words of the state, first
//! all subkeys, then all S-boxes. bcrypt begins with password and salt at once: it expands the
//! password, and XORs into each block, before its encryption, one half of the salt, the first
//! and the second in turn. Then come `2^cost` *rounds*: the password is expanded, then the salt.
//! At last it encrypts each block of a constant of three 64 times: that is the digest. Bytes
//! are read as big-endian words, password (with the NUL that ends it) and salt again from the
//! start as often as it takes.
//!
//! **Why lanes.** Each of a block's 16 Feistel steps looks up four words at places that
//! the step before it computed. So one hash mostly waits, and leaves a core three quarters
//! idle. A *lane* is the state of one hash; all lanes of a thread do the same Feistel step,
//! then all do the next (*lockstep*): while one waits for its words, the others work. All
//! rounds are alike, so hashes of any cost, begun at any time, go together.
//!
//! **How they join and leave.** [`Lanes`] keeps the lanes that are in use at the front of
//! one array. [`Lanes::advance`] takes them some rounds further, with code made for just
//! that number of lanes (a constant: all loops over lanes are unrolled and no index is
//! checked). Between two calls a hash that is complete or unwanted leaves, the last lane
//! moves into the gap, and who waits takes the place behind the last. What comes before and
//! after the rounds (`begin`, `finish`) each lane does alone.
//!
//! A lane is wiped when its hash leaves it.

mod lane;
mod lanes;
mod pi;

use zeroize::Zeroizing;

pub use self::{
    lane::{Lane, advance},
    lanes::{LANES, Lanes},
};

/// bcrypt reads no further.
const MAX_BYTES: usize = 72;

/// bcrypt's salt.
pub type Salt = [u8; 16];

/// bcrypt computes 24 bytes, and the hash format has always left out the last.
pub type Digest = [u8; 23];

/// The bytes that bcrypt mixes in: the password and the NUL that ends it, at most 72.
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Of a password without the NUL.
    #[must_use]
    pub fn new(password: &[u8]) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() + 1));
        bytes.extend_from_slice(password);
        bytes.push(0);
        bytes.truncate(MAX_BYTES);
        Self(bytes)
    }
}

/// One bcrypt to compute.
pub struct Work {
    /// The password.
    pub key: Key,
    /// The binary logarithm of the rounds, at most 31.
    pub cost: u32,
    /// What makes equal passwords' hashes differ.
    pub salt: Salt,
}

impl Work {
    /// `2^cost`.
    #[must_use]
    pub const fn rounds(&self) -> u32 {
        1 << self.cost
    }
}
