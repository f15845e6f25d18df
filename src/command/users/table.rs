//! Text tables for people.

use auth_service::model::unicode::is_invisible;

/// Lines of aligned columns. A column never becomes narrower, so the pages of a list look alike.
pub(super) struct Table<const N: usize> {
    header: Option<[&'static str; N]>,
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    pub(super) fn new(header: [&'static str; N]) -> Self {
        let header = Some(header);
        Self {
            header,
            ..Self::without_header()
        }
    }

    pub(super) const fn without_header() -> Self {
        Self {
            header: None,
            widths: [0; N],
        }
    }

    /// The next lines, after the header if they are the first.
    pub(super) fn lines(&mut self, rows: Vec<[String; N]>) -> String {
        let header = self.header.take().map(|header| header.map(str::to_owned));
        let rows = header.into_iter().chain(rows);
        let rows: Vec<_> = rows.map(|row| row.map(|cell| visible(&cell))).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String; N]) -> String {
        let cells = row.iter().zip(self.widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    }
}

/// Texts of older rows may hold characters that would confuse a terminal.
pub(super) fn visible(text: &str) -> String {
    let replace = |c| if is_invisible(c) { '\u{FFFD}' } else { c };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2]) -> [String; 2] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_aligned_also_on_the_next_page() {
        let mut table = Table::new(["A", "BB"]);
        let first = table.lines(vec![row(["zoë", "1"]), row(["", "2"])]);
        assert_eq!(first, "A    BB\nzoë  1\n     2\n");
        assert_eq!(table.lines(vec![row(["x", "3"])]), "x    3\n");
        assert_eq!(table.lines(vec![row(["longer", ""])]), "longer\n");
    }

    #[test]
    fn an_empty_table_has_its_header() {
        assert_eq!(Table::new(["A", "B"]).lines(vec![]), "A  B\n");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let lines = Table::new(["A", "B"]).lines(vec![row(["a\u{1b}[2J\n\u{202E}", "b"])]);
        assert_eq!(
            lines.lines().last(),
            Some("a\u{FFFD}[2J\u{FFFD}\u{FFFD}  b")
        );
    }
}
