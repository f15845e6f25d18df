use std::{error::Error, fmt, time::Duration};

/// The results, in the order of their measurement. `Display` writes Markdown.
#[derive(Default)]
pub struct Table(Vec<[String; 5]>);

impl Table {
    /// Adds a row, and prints it to stderr at once.
    pub fn row(&mut self, figure: &str, measured: &str, baseline: &str, ratio: &str, goal: &str) {
        let row = [figure, measured, baseline, ratio, goal].map(str::to_owned);
        eprintln!("{}", row.join(" | "));
        self.0.push(row);
    }

    /// A group that this machine cannot measure.
    pub fn not_measured(&mut self, group: &str, why: &dyn Error) {
        self.row(group, "NOT MEASURED", &why.to_string(), "", "");
    }

    pub fn rates(&mut self, figure: &str, measured: f64, what: &str, baseline: f64, goal: &str) {
        self.row(
            figure,
            &rate(measured),
            &format!("{} {what}", rate(baseline)),
            &ratio(measured / baseline),
            goal,
        );
    }

    /// What a call costs, in `unit`.
    pub fn costs(
        &mut self,
        figure: &str,
        measured: f64,
        unit: &str,
        what: &str,
        baseline: f64,
        goal: &str,
    ) {
        self.row(
            figure,
            &format!("{measured:.0} {unit}"),
            &format!("{baseline:.0} {unit} {what}"),
            &ratio(measured / baseline),
            goal,
        );
    }

    pub fn times(
        &mut self,
        figure: &str,
        measured: Duration,
        what: &str,
        baseline: Duration,
        goal: &str,
    ) {
        self.row(
            figure,
            &time(measured),
            &format!("{} {what}", time(baseline)),
            &ratio(measured.as_secs_f64() / baseline.as_secs_f64()),
            goal,
        );
    }
}

pub fn rate(rate: f64) -> String {
    if rate < 100.0 {
        format!("{rate:.1}/s")
    } else {
        format!("{rate:.0}/s")
    }
}

pub fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

pub fn time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 {
        format!("{ms:.2} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | measured | baseline | ratio | goal |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for row in &self.0 {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}
