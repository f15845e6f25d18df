//! `users import`: creates accounts from JSON lines, batch by batch, in constant memory.
//!
//! Nothing of an interrupted import has to be kept: the lines that are done are UNCHANGED in the
//! next run.

use std::{
    fs,
    io::{self, BufRead, BufReader, IsTerminal as _},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use auth_service::{
    auth::{CheckedRow, IMPORT_BATCH, Import, ImportCounts},
    config::File,
    model::{Imported, Rejection},
};
use serde_json::json;

use super::{
    Operator,
    lines::{LONGEST, Lines},
    output::{Output, print_line},
    progress::Progress,
    row,
};
use crate::command::note;

/// The size of the largest line.
const BUFFER: usize = LONGEST;

struct Input {
    lines: Lines<Box<dyn BufRead>>,
    /// `None` unless it is a file.
    size: Option<u64>,
}

/// Rows, and the numbers of their lines.
#[derive(Default)]
struct Batch {
    numbers: Vec<u64>,
    rows: Vec<CheckedRow>,
}

impl Operator {
    pub(super) async fn import(&self, file: &File) -> anyhow::Result<()> {
        let mut input = Input::open(file)?;
        let mut import = Import::begin(Arc::clone(&self.admin), self.call(None));
        let mut progress = Progress::begin(input.size);
        let mut done = 0;
        loop {
            let ended = self.step(&mut input, &mut import, &mut progress).await;
            match ended {
                Ok(Some(line)) => done = line,
                Ok(None) => break,
                Err(error) => {
                    import.failed();
                    let what = format!("stopped after line {done}: import the file again");
                    return Err(error.context(what));
                }
            }
        }
        drop(progress);
        let counts = import.counts();
        import.end();
        self.sum_up(counts)
    }

    /// Imports the next batch. The number of its last line, or `None` at the end.
    async fn step(
        &self,
        input: &mut Input,
        import: &mut Import,
        progress: &mut Progress,
    ) -> anyhow::Result<Option<u64>> {
        let Batch { numbers, rows } = input.batch(import)?;
        let Some(last) = numbers.last().copied() else {
            return Ok(None);
        };
        let turn = import.turn().await;
        let imported = import.batch(rows, turn).await?;
        progress.beside(|| {
            for (number, row) in numbers.iter().zip(&imported) {
                if let Imported::Rejected(rejection) = row {
                    report(*number, rejection, self.output)?;
                }
            }
            anyhow::Ok(())
        })?;
        progress.advance(numbers.len(), input.lines.bytes());
        Ok(Some(last))
    }

    fn sum_up(&self, counts: ImportCounts) -> anyhow::Result<()> {
        let ImportCounts {
            created,
            unchanged,
            rejected,
        } = counts;
        let object = json!({ "created": created, "unchanged": unchanged, "rejected": rejected });
        let text = || format!("created: {created}, unchanged: {unchanged}, rejected: {rejected}\n");
        self.output.object(&object, text)?;
        match rejected {
            0 => Ok(()),
            1 => bail!("1 line was rejected"),
            _ => bail!("{rejected} lines were rejected"),
        }
    }
}

/// On stderr for people, and as a line of JSON on stdout.
fn report(line: u64, rejection: &Rejection, output: Output) -> anyhow::Result<()> {
    if output.json {
        let reason = rejection.to_string();
        return print_line(&json!({ "line": line, "status": "REJECTED", "reason": reason }));
    }
    note(format_args!("line {line}: {rejection}"));
    Ok(())
}

impl Input {
    fn open(file: &File) -> anyhow::Result<Self> {
        let File::Path(path) = file else {
            let input = io::stdin().lock();
            if input.is_terminal() {
                note("reading lines from the terminal, Ctrl-D ends them");
            }
            let lines = Lines::new(Box::new(input) as _);
            return Ok(Self { lines, size: None });
        };
        let cannot_open = || format!("cannot open {}", path.display());
        let file = fs::File::open(path).with_context(cannot_open)?;
        let metadata = file.metadata().with_context(cannot_open)?;
        Ok(Self {
            lines: Lines::new(Box::new(BufReader::with_capacity(BUFFER, file))),
            size: metadata.is_file().then_some(metadata.len()),
        })
    }

    /// Empty at the end. Blank lines are no rows.
    fn batch(&mut self, import: &Import) -> io::Result<Batch> {
        let mut batch = Batch::default();
        while batch.rows.len() < IMPORT_BATCH {
            let Some((number, text)) = self.lines.next()? else {
                break;
            };
            if text.is_ok_and(|text| text.trim_ascii().is_empty()) {
                continue;
            }
            batch.numbers.push(number);
            batch.rows.push(import.check(row::parse(text)));
        }
        Ok(batch)
    }
}
