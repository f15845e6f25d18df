//! The floors of the house, and the test that no import points up or sideways.
//!
//! A part may use the parts on lower floors and itself. `lib.rs` says what each part is for.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The modules of `lib.rs` and `main.rs`, from the top floor down to the ground.
const FLOORS: [&[&str]; 12] = [
    &["main", "command", "process"],
    &["app"],
    &["config"],
    &["grpc"],
    &["outbox"],
    &["edge"],
    &["auth"],
    &["password"],
    &["db"],
    &["telemetry", "tls"],
    &["model"],
    &["proto"],
];

#[test]
fn no_import_points_up_or_sideways() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut against = Vec::new();
    for file in sources(&root) {
        let module: Vec<String> = module(file.strip_prefix(&root).expect("below it"));
        let source = fs::read_to_string(&file).expect("a source file");
        let words = words(&source);
        let Some(part) = module.first() else { continue };
        let own_floor = floor(part).unwrap_or_else(|| panic!("{part} has no floor: see FLOORS"));
        for used in parts_used(&words, module.len()) {
            // A name without a floor, such as `*`, may hide any part.
            let is_below = floor(used).is_some_and(|floor| floor > own_floor);
            if used != *part && !is_below {
                against.push(format!("{}: {used}", module.join("::")));
            }
        }
    }
    assert!(against.is_empty(), "{against:#?}");
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let source = "
        use crate::{a::{b, c}, d};
        use super::super::{e, f::g};
        fn f() { crate::h::i(); let _ = super::not_of_the_root(); }
        macro_rules! m { () => { $crate::j::k() } }
        mod inner { use super::super::super::l; use super::super::not_of_the_root; }
        // crate::comment
        /* crate::comment */
        const TEXT: (&str, char, &str) = (\"crate::\\\"text\", '\"', r#\"crate::raw\"#);
        fn lifetime<'a>(a: &'a str) {}
        use auth_service::o;
    ";
    let used = parts_used(&words(source), 2);
    assert_eq!(used, ["a", "d", "e", "f", "h", "j", "l", "o"]);
    for hidden in [
        "use crate as root;",
        "use crate::{self as root};",
        "use crate::*;",
        "use self::super::super::grpc;",
        "use super::{a, super::{b, grpc}};",
        "use crate::r#grpc;",
    ] {
        let used = parts_used(&words(hidden), 2);
        assert!(used.iter().any(|used| floor(used).is_none()), "{hidden}");
    }
}

fn floor(part: &str) -> Option<usize> {
    FLOORS.iter().position(|parts| parts.contains(&part))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    // Not the packages of their own, nor this file.
    paths
        .filter(|path| !path.ends_with("password/kernel") && !path.ends_with("edge/verifier"))
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !path.ends_with("src/floors.rs"))
        .collect()
}

/// The path of a file's module: `grpc/layer/trace.rs` is `grpc::layer::trace`.
fn module(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    let names = names.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name != "lib").collect()
}

/// The parts of the house that a module at this depth names, by paths from the root.
fn parts_used<'s>(words: &[&'s str], depth: usize) -> Vec<&'s str> {
    let mut used = Vec::new();
    // The depth within each open brace.
    let mut depths = vec![depth];
    for (at, word) in words.iter().enumerate() {
        let depth = *depths.last().expect("braces match");
        match *word {
            "{" => depths.push(depth + usize::from(at >= 2 && words[at - 2] == "mod")),
            "}" => drop(depths.pop()),
            _ => {
                used.extend(hidden_path(&words[at..]));
                let is_first = at == 0 || words[at - 1] != "::";
                let path = is_first.then(|| after_root(&words[at..], depth)).flatten();
                used.extend(path.into_iter().flat_map(first_names));
            }
        }
    }
    used
}

/// Spellings of the root's path that no file needs: they count as a part without a floor.
fn hidden_path<'s>(words: &[&'s str]) -> Option<&'s str> {
    let is_hidden = match words {
        ["crate", "as", ..] | ["self", "::", "super", ..] => true,
        ["super", "::", "{", rest @ ..] => {
            let mut group = rest.iter().take_while(|word| **word != ";");
            group.any(|word| *word == "super")
        }
        _ => false,
    };
    is_hidden.then(|| words[0])
}

/// The words after the root's path, if they begin with it.
fn after_root<'w, 's>(words: &'w [&'s str], depth: usize) -> Option<&'w [&'s str]> {
    match words {
        ["crate" | "auth_service", "::", rest @ ..] => Some(rest),
        ["super", "::", rest @ ..] if depth == 1 => Some(rest),
        ["super", "::", rest @ ..] if depth > 1 => after_root(rest, depth - 1),
        _ => None,
    }
}

/// The first name of `a::b`, or of each entry of `{a::{b, c}, d}`.
fn first_names<'s>(words: &[&'s str]) -> Vec<&'s str> {
    let mut names = Vec::new();
    let mut open = 0;
    for (at, word) in words.iter().enumerate() {
        match *word {
            "{" => open += 1,
            "}" => open -= 1,
            name if open == 0 || open == 1 && matches!(words[at - 1], "{" | ",") => {
                names.push(name);
            }
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    names
}

/// Identifiers, `::`, and other characters one by one, without comments and literals.
fn words(source: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let name = name.unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else {
            let length = if rest.starts_with("::") {
                2
            } else {
                name.max(first.len_utf8())
            };
            if !first.is_whitespace() {
                words.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    words
}

/// The length of a literal between quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    rest.len()
}

/// A quote also begins a lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    first == Some('\\') || second == Some('\'')
}
