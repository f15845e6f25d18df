//! The README's table of variables against their declarations.

use super::*;

/// The names, and the cells of name and default, of each row.
fn rows() -> Vec<(Vec<&'static str>, &'static str)> {
    let readme = include_str!("../../../README.md");
    let (_, table) = readme
        .split_once("| variable | default | meaning |\n|---|---|---|\n")
        .unwrap();
    let row = |line: &'static str| {
        let mut cells = line.trim_start_matches("| ").split(" | ");
        let names = cells
            .next()
            .unwrap()
            .trim_matches('`')
            .split("`, `")
            .collect();
        (names, cells.next().unwrap())
    };
    table
        .lines()
        .take_while(|line| !line.is_empty())
        .map(row)
        .collect()
}

#[test]
fn the_readme_lists_every_variable_once() {
    let rows = rows();
    let mut listed: Vec<_> = rows.iter().flat_map(|(names, _)| names).copied().collect();
    let mut declared: Vec<_> = variables().map(|variable| variable.name).collect();
    listed.sort_unstable();
    declared.sort_unstable();
    assert_eq!(listed, declared);
}

#[test]
fn the_readme_shows_every_default() {
    for (names, defaults) in rows() {
        for name in names {
            let variable = variables().find(|variable| variable.name == name);
            if let Default::Text(default) = variable.unwrap().default {
                let shown = defaults.split(", ").map(|cell| cell.trim_matches('`'));
                assert!(shown.into_iter().any(|cell| cell == default), "{name}");
            }
        }
    }
}
