use std::{collections::BTreeSet, fmt::Write as _, fs, io::Write as _};

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn open(content: &str) -> Result<Blocklist, BlocklistError> {
    Blocklist::open(file(content.as_bytes()).path())
}

fn line(first: u8, end: &str) -> String {
    format!("{first:02X}{}:7{end}", "0".repeat(38))
}

fn hash(first: u8) -> Sha1 {
    let mut hash = [0; 20];
    hash[0] = first;
    hash
}

#[test]
fn only_an_ordered_list_of_hashes_is_opened() {
    let list = |firsts: &[u8]| firsts.iter().map(|n| line(*n, "\n")).collect::<String>();
    for good in [
        list(&[0]),
        list(&[1, 2, 2, 255]),
        list(&[1, 2]).to_lowercase(),
        list(&[1, 2]).replace('\n', "\r\n"),
        list(&[1, 2]).trim_end().to_owned(),
        list(&[1]).replace(":7", ":18446744073709551615"),
    ] {
        assert!(open(&good).is_ok(), "{good}");
    }
    let malformed = "holds a line that is not SHA-1:count";
    let unordered = "is not ordered by hash";
    for (bad, problem) in [
        (String::new(), "is empty"),
        ("\n".to_owned(), malformed),
        (list(&[2, 1]), unordered),
        (list(&[1, 3, 2, 4]), unordered),
        (list(&[1]) + "\n", malformed),
        (list(&[1]).replace(":7", ""), malformed),
        (list(&[1]).replace(":7", ":"), malformed),
        (list(&[1]).replace(":7", ":x"), malformed),
        (list(&[1]).replace("00:", "0G:"), malformed),
        (list(&[1]).replace("00:", "0:"), malformed),
        ("x".repeat(5000), malformed),
        (format!("\u{feff}{}", list(&[1])), malformed),
    ] {
        assert_eq!(open(&bad).err().unwrap().to_string(), problem, "{bad}");
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = Blocklist::open(folder.path()).err().unwrap();
    assert_eq!(folder.to_string(), "is not a file");
}

#[test]
fn a_large_list_is_checked_at_its_end_and_in_between() {
    let mut lines: Vec<_> = (0..60_000_u32)
        .map(|n| format!("{n:08X}{}:1\r\n", "0".repeat(32)))
        .collect();
    assert!(open(&lines.concat()).is_ok());
    lines.swap(59_998, 59_999);
    let unordered = open(&lines.concat());
    assert!(matches!(unordered, Err(BlocklistError::Unordered)));
    lines.swap(59_998, 59_999);
    lines[30_000..].reverse();
    let unordered = open(&lines.concat());
    assert!(matches!(unordered, Err(BlocklistError::Unordered)));
}

#[test]
fn a_replaced_file_stays_in_use_and_a_broken_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["list", "other"].map(|name| folder.path().join(name));
    let content: String = (0..200).map(|n| line(n, "\n")).collect();
    fs::write(&path, &content).unwrap();
    let list = Blocklist::open(&path).unwrap();

    let held = folder.path().join("held");
    fs::hard_link(&path, &held).unwrap();
    fs::write(&other, line(250, "\n")).unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(list.contains(&hash(7)).unwrap());
    assert!(!list.contains(&hash(250)).unwrap());

    fs::write(&held, content.replace(':', ";")).unwrap();
    let broken = list.contains(&hash(7));
    assert!(matches!(broken, Err(BlocklistError::Malformed)));
    fs::write(&held, &content[..100]).unwrap();
    let broken = list.contains(&hash(7));
    assert!(matches!(broken, Err(BlocklistError::Io(_))));
}

fn known() -> impl Strategy<Value = BTreeSet<Sha1>> {
    // Close to each other, so that searched hashes lie between and on both sides.
    prop::collection::btree_set((any::<u8>(), any::<u8>()), 1..200).prop_map(|firsts| {
        let hash = |(first, second)| {
            let mut hash = hash(first);
            hash[1] = second & 3;
            hash
        };
        firsts.into_iter().map(hash).collect()
    })
}

proptest! {
    #[test]
    fn bisection_finds_what_is_there_and_nothing_else(
        known in known(),
        counts in prop::collection::vec(1..u64::MAX, 200),
        shifts in prop::collection::vec(0..64_u32, 200),
        crlf in any::<bool>(),
        last_end in any::<bool>(),
        upper in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut content = String::new();
        for ((hash, count), shift) in known.iter().zip(counts).zip(shifts) {
            for byte in hash {
                write!(content, "{byte:02x}").unwrap();
            }
            write!(content, ":{}{end}", count >> shift).unwrap();
        }
        if upper {
            content = content.to_uppercase();
        }
        if !last_end {
            content.truncate(content.len() - end.len());
        }
        let list = open(&content).unwrap();
        for first in 0..=255 {
            for second in 0..4 {
                let mut hash = hash(first);
                hash[1] = second;
                prop_assert_eq!(list.contains(&hash).unwrap(), known.contains(&hash));
            }
        }
    }
}
