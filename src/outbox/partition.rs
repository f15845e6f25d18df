//! The partition of a key, chosen as Java's default partitioner does
//! (`org.apache.kafka.common.utils.Utils.murmur2`, `BuiltInPartitioner.partitionForKey`).
//!
//! Other producers that use the user id as the key then choose the same partition, so a
//! consumer may join our events with theirs by partition number.

use std::num::NonZeroUsize;

pub fn partition(key: &[u8], partitions: NonZeroUsize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// 32-bit `MurmurHash2` with Kafka's seed; Java prints the same bits as a signed number.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // Java's `int` length; a key is far shorter than 4 GiB.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, tail) = data.as_chunks::<4>();
    let mut hash = 0x9747_b28c ^ length;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev();
        let rest = rest.fold(0, |k, byte| k << 8 | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_apache_kafka() {
        // From Apache Kafka's `UtilsTest.testMurmur2`.
        let vectors = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_before_the_remainder() {
        let twelve = NonZeroUsize::new(12).expect("not zero");
        // (-973932308 & 0x7fffffff) % 12 and (-790332482 & 0x7fffffff) % 12
        assert_eq!(partition(b"21", twelve), 0);
        assert_eq!(partition(b"foobar", twelve), 6);
    }
}
