//! Blowfish on the states of several hashes, in lockstep.

use std::{array, iter::zip};

use zeroize::Zeroize;

use crate::{
    Digest, Work,
    pi::{P, S},
};

/// "`OrpheanBeholderScryDoubt`", big-endian.
const TEXT: [[u32; 2]; 3] = [
    [0x4f72_7068, 0x6561_6e42],
    [0x6568_6f6c, 0x6465_7253],
    [0x6372_7944, 0x6f75_6274],
];

/// The state of one hash.
///
/// The alignment keeps two lanes from sharing a cache line. The size puts the subkeys of
/// adjacent lanes, which every step reads, into different cache sets.
#[repr(C, align(64))]
pub struct Lane {
    s: [[u32; 256]; 4],
    p: [u32; 18],
    /// XORed into `p` first in each round: the password, repeated.
    key: [u32; 18],
    /// XORed into `p` second, repeated.
    salt: [u32; 4],
}

impl Lane {
    pub const IDLE: Self = Self {
        s: [[0; 256]; 4],
        p: [0; 18],
        key: [0; 18],
        salt: [0; 4],
    };

    pub fn begin(&mut self, work: &Work) {
        (self.p, self.s) = (P, S);
        let mut key = work.key.0.iter().cycle();
        self.key.fill_with(|| next_word(&mut key));
        let mut salt = work.salt.iter().cycle();
        self.salt.fill_with(|| next_word(&mut salt));

        self.mix_in_key();
        let [a, b, c, d] = self.salt;
        let mut salt = [[a, b], [c, d]].into_iter().cycle();
        expand(array::from_mut(self), |l, r| {
            let [left, right] = salt.next().expect("a cycle");
            l[0] ^= left;
            r[0] ^= right;
        });
    }

    #[must_use]
    pub fn finish(&self) -> Digest {
        let words = TEXT.into_iter().flat_map(|[l, r]| {
            let (mut l, mut r) = ([l], [r]);
            for _ in 0..64 {
                encrypt(array::from_ref(self), &mut l, &mut r);
            }
            [l, r].into_iter().flatten()
        });
        let mut digest = Digest::default();
        for (place, byte) in zip(&mut digest, words.flat_map(u32::to_be_bytes)) {
            *place = byte;
        }
        digest
    }

    fn mix_in_key(&mut self) {
        for (subkey, word) in zip(&mut self.p, self.key) {
            *subkey ^= word;
        }
    }

    fn mix_in_salt(&mut self) {
        for (subkey, word) in zip(&mut self.p, self.salt.into_iter().cycle()) {
            *subkey ^= word;
        }
    }

    /// The four look-ups of a Feistel step. It uses shifts, because the compiler turns
    /// `to_be_bytes` into a byte swap that every step waits for.
    #[inline]
    fn f(&self, x: u32) -> u32 {
        let s = |n: usize, shift: u32| self.s[n][(x >> shift & 0xff) as usize];
        (s(0, 24).wrapping_add(s(1, 16)) ^ s(2, 8)).wrapping_add(s(3, 0))
    }
}

impl Zeroize for Lane {
    fn zeroize(&mut self) {
        self.s.zeroize();
        self.p.zeroize();
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.zeroize();
    }
}

fn next_word<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> u32 {
    u32::from_be_bytes(array::from_fn(|_| *bytes.next().expect("a cycle")))
}

pub fn advance<const N: usize>(lanes: &mut [Lane; N], rounds: u32) {
    for _ in 0..rounds {
        lanes.iter_mut().for_each(Lane::mix_in_key);
        expand(lanes, |_, _| ());
        lanes.iter_mut().for_each(Lane::mix_in_salt);
        expand(lanes, |_, _| ());
    }
}

/// Replaces all subkeys and S-boxes. `before` can change each block before its encryption.
#[inline]
fn expand<const N: usize>(
    lanes: &mut [Lane; N],
    mut before: impl FnMut(&mut [u32; N], &mut [u32; N]),
) {
    let (mut l, mut r) = ([0; N], [0; N]);
    for at in 0..9 {
        before(&mut l, &mut r);
        encrypt(lanes, &mut l, &mut r);
        for n in 0..N {
            (lanes[n].p[2 * at], lanes[n].p[2 * at + 1]) = (l[n], r[n]);
        }
    }
    for s in 0..4 {
        for at in 0..128 {
            before(&mut l, &mut r);
            encrypt(lanes, &mut l, &mut r);
            for n in 0..N {
                (lanes[n].s[s][2 * at], lanes[n].s[s][2 * at + 1]) = (l[n], r[n]);
            }
        }
    }
}

/// Encrypts one block in each lane. The lanes overlap in the loops over `n`.
#[inline]
fn encrypt<const N: usize>(lanes: &[Lane; N], l: &mut [u32; N], r: &mut [u32; N]) {
    for step in 0..8 {
        for n in 0..N {
            l[n] ^= lanes[n].p[2 * step];
        }
        for n in 0..N {
            r[n] ^= lanes[n].f(l[n]) ^ lanes[n].p[2 * step + 1];
        }
        for n in 0..N {
            l[n] ^= lanes[n].f(r[n]);
        }
    }
    for n in 0..N {
        (l[n], r[n]) = (r[n] ^ lanes[n].p[17], l[n] ^ lanes[n].p[16]);
    }
}
