//! Java's default partitioner, written a second time from its own source.

/// The partition that Java's default partitioner chooses among twelve.
pub(super) fn java_partition(key: &str) -> i32 {
    (java_murmur2(key.as_bytes()) & 0x7fff_ffff) % 12
}

/// `org.apache.kafka.common.utils.Utils.murmur2`, line by line.
fn java_murmur2(data: &[u8]) -> i32 {
    let shift = |value: i32, by: u32| (value.cast_unsigned() >> by).cast_signed();
    let byte = |index: usize| i32::from(data[index]);
    let m = 0x5bd1_e995_u32.cast_signed();
    let length = i32::try_from(data.len()).unwrap();
    let mut h = 0x9747_b28c_u32.cast_signed() ^ length;
    for i in 0..data.len() / 4 {
        let i4 = i * 4;
        let mut k = byte(i4) + (byte(i4 + 1) << 8) + (byte(i4 + 2) << 16);
        k = k.wrapping_add(byte(i4 + 3) << 24);
        k = k.wrapping_mul(m);
        k ^= shift(k, 24);
        k = k.wrapping_mul(m);
        h = h.wrapping_mul(m);
        h ^= k;
    }
    let rest = data.len() & !3;
    if data.len() % 4 == 3 {
        h ^= byte(rest + 2) << 16;
    }
    if data.len() % 4 >= 2 {
        h ^= byte(rest + 1) << 8;
    }
    if data.len() % 4 >= 1 {
        h ^= byte(rest);
        h = h.wrapping_mul(m);
    }
    h ^= shift(h, 13);
    h = h.wrapping_mul(m);
    h ^ shift(h, 15)
}

#[test]
fn the_partitioner_of_these_tests_agrees_with_apache_kafka() {
    // `UtilsTest.testMurmur2`
    for (key, hash) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ] {
        assert_eq!(java_murmur2(key.as_bytes()), hash, "{key}");
    }
}
