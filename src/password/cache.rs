//! How many lanes a thread uses: as many as its core's first-level data cache holds.
//!
//! A lane takes 4.2 KiB. The numbers are the best rows of the lane table of `cargo bench`: five
//! lanes with 32 KiB, where six are 6 to 12 % slower; eight lanes with 48 KiB, where six are 6 %
//! slower.

use std::{fs, num::NonZeroUsize, path::Path};

use bcrypt_lanes::LANES;

const ALL: NonZeroUsize = NonZeroUsize::new(LANES).expect("there are lanes");
/// For 32 KiB, which is the smallest cache of today's servers, and for an unknown one.
const FEWER: NonZeroUsize = NonZeroUsize::new(5).expect("not zero");

/// Linux describes the caches here, also in a container. The cores of a server are alike.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";

/// The lanes of each hashing thread on this machine.
pub fn lanes() -> NonZeroUsize {
    lanes_for(first_level_data(Path::new(CACHES)))
}

const fn lanes_for(kibibytes: Option<u32>) -> NonZeroUsize {
    match kibibytes {
        Some(48..) => ALL,
        _ => FEWER,
    }
}

/// The size in KiB. `None` if the system does not say.
fn first_level_data(caches: &Path) -> Option<u32> {
    let mut folders = fs::read_dir(caches).ok()?.flatten();
    folders.find_map(|folder| {
        let read = |name| fs::read_to_string(folder.path().join(name)).ok();
        let is_it = read("level")?.trim() == "1" && read("type")?.trim() == "Data";
        is_it.then_some(read("size")?.trim().strip_suffix('K')?.parse().ok()?)
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn caches(caches: &[[&str; 3]]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (n, cache) in caches.iter().enumerate() {
            let index = folder.path().join(format!("index{n}"));
            fs::create_dir(&index).unwrap();
            for (name, value) in ["level", "type", "size"].iter().zip(cache) {
                fs::write(index.join(name), format!("{value}\n")).unwrap();
            }
        }
        folder
    }

    fn found(table: &[[&str; 3]]) -> Option<u32> {
        first_level_data(caches(table).path())
    }

    #[test]
    fn the_first_level_data_cache_is_found_among_others() {
        let size = found(&[
            ["1", "Instruction", "32K"],
            ["2", "Unified", "1024K"],
            ["3", "Data", "64K"],
            ["1", "Data", "48K"],
        ]);
        assert_eq!(size, Some(48));
    }

    #[test]
    fn a_cache_without_a_size_in_kibibytes_is_unknown() {
        assert_eq!(found(&[["1", "Data", "1M"]]), None);
        assert_eq!(found(&[["1", "Unified", "32K"]]), None);
        assert_eq!(found(&[]), None);
        assert_eq!(first_level_data(Path::new("no such folder")), None);
    }

    #[test]
    fn a_larger_cache_holds_more_lanes() {
        let lanes = [None, Some(16), Some(32), Some(47), Some(48), Some(128)];
        let lanes = lanes.map(|size| lanes_for(size).get());
        assert_eq!(lanes, [5, 5, 5, 5, 8, 8]);
    }
}
