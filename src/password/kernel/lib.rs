//! bcrypt (Provos and Mazieres 1999), several hashes at a time.
//!
//! **The algorithm.** Blowfish's state is 18 subkeys and four S-boxes of 256 words. It is
//! initialised with the digits of pi. *Expanding* a key into the state has two steps. First,
//! the key's words are XORed into the subkeys. Then a block of zeros is encrypted 521 times
//! with the current state; each result is the next block and replaces the next two words of
//! the state, first all subkeys, then all S-boxes.
//!
//! bcrypt first expands password and salt together: it expands the password, but XORs one
//! half of the salt, the first and the second in turn, into each block before its encryption.
//! Then come `2^cost` *rounds*: each expands the password, then the salt. The digest is a
//! constant of three blocks, each encrypted 64 times. Bytes are read as big-endian words. The
//! password (with its final NUL) and the salt are repeated as often as needed.
//!
//! **Why lanes.** Each of a block's 16 Feistel steps looks up four words at addresses that
//! the previous step computed. A single hash therefore waits most of the time and leaves three
//! quarters of a core idle. A *lane* is the state of one hash. All lanes of a thread do the
//! same Feistel step, then all do the next (*lockstep*): while one lane waits for its words,
//! the others compute. All rounds are equal, so hashes of different costs that began at
//! different times can advance together.
//!
//! **How hashes join and leave.** [`Lanes`] keeps the lanes in use at the front of one array.
//! [`Lanes::advance`] computes some rounds with code that is compiled for exactly that number
//! of lanes: all loops over lanes are unrolled and no index is checked. Between two calls,
//! complete and unwanted hashes leave, the last lane moves into the gap, and waiting hashes
//! join behind the last lane. The work before and after the rounds (`begin`, `finish`) is done
//! in each lane alone.
//!
//! **Padding.** A work can be longer than its bcrypt: its lane goes on after the digest is known.
//! A caller can then not see by the time whether a hash had a low cost ([`Work::padded`]).
//!
//! A lane is wiped when its hash leaves it.

mod lane;
mod lanes;
mod pi;

use zeroize::Zeroizing;

use self::lane::{Lane, advance};
pub use self::lanes::{LANES, Lanes};

/// bcrypt ignores all further bytes.
const MAX_BYTES: usize = 72;

pub type Salt = [u8; 16];

/// bcrypt computes 24 bytes; the hash format omits the last one.
pub type Digest = [u8; 23];

/// The key that bcrypt expands: the password and a final NUL, at most 72 bytes.
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// `password` is without the NUL.
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
    pub key: Key,
    /// The binary logarithm of the rounds, at most 31.
    pub cost: u32,
    pub salt: Salt,
    /// The rounds that follow the digest.
    padding: u32,
}

impl Work {
    #[must_use]
    pub const fn new(key: Key, cost: u32, salt: Salt) -> Self {
        let padding = 0;
        Self {
            key,
            cost,
            salt,
            padding,
        }
    }

    /// Has at least as many rounds as a bcrypt of another cost. The digest is the same.
    #[must_use]
    pub const fn padded(mut self, cost: u32) -> Self {
        self.padding = (1_u32 << cost).saturating_sub(1 << self.cost);
        self
    }

    /// Those of the bcrypt and of the padding.
    #[must_use]
    pub const fn rounds(&self) -> u32 {
        (1 << self.cost) + self.padding
    }
}
