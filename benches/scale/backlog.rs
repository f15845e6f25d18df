//! A large backlog of events, as after a long outage of Kafka.

use crate::{
    Result,
    footprint::{self, megabytes},
    outbox::backlog::drain,
    stats::median,
    table::{self, Table},
};

const FEW: usize = 100_000;
const MANY: usize = 1_000_000;
const ROUNDS: usize = 3;

pub async fn measure(table: &mut Table) -> Result<()> {
    let mut rates = [const { Vec::new() }; 2];
    let mut grown = [const { Vec::new() }; 2];
    let mut peaks = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (n, backlog) in [MANY, FEW].into_iter().enumerate() {
            footprint::reset_own_peak()?;
            let before = footprint::resident(std::process::id())?;
            rates[n].push(drain(backlog).await?);
            let peak = footprint::peak(std::process::id())?;
            peaks[n].push(peak);
            grown[n].push(peak - before);
        }
    }
    let what = format!("with {FEW}");
    let [many, few] = rates.map(|rates| median(&rates));
    let name = format!("outbox drain, {MANY} events");
    table.rates(&name, many, &what, few, ">= 0.9x");
    let [many, few] = peaks.map(|peaks| median(&peaks));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let ratio = many as f64 / few as f64;
    let texts = [many, few].map(megabytes);
    let name = "peak of resident memory during that";
    let baseline = format!("{} {what}", texts[1]);
    table.row(name, &texts[0], &baseline, &table::ratio(ratio), "<= 1.1x");
    let [many, few] = grown.map(|grown| megabytes(median(&grown)));
    let baseline = format!("{few} {what}");
    table.row("of which it grew by", &many, &baseline, "", "");
    Ok(())
}
