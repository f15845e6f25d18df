use super::Priority;

/// The known devices' share of the rounds for each one of the others, while both wait.
const KNOWN_ROUNDS: u64 = 3;

/// Which class of callers is next: a known device, unless the others that wait have got less
/// than a quarter of the rounds.
#[derive(Clone, Default)]
pub(super) struct Turns {
    /// The rounds of known devices that began while others waited, less those that were made
    /// up for: [`KNOWN_ROUNDS`] for each round of the others.
    owed: u64,
}

impl Turns {
    /// Takes the turn of the next job. The arguments are the rounds of the first job of each
    /// class.
    pub(super) fn next(&mut self, known: Option<u32>, other: Option<u32>) -> Option<Priority> {
        let worth = other.map(|rounds| KNOWN_ROUNDS * u64::from(rounds));
        match (known, worth) {
            (Some(known), Some(worth)) if self.owed < worth => {
                self.owed += u64::from(known);
                Some(Priority::KnownDevice)
            }
            (_, Some(worth)) => {
                self.owed = self.owed.saturating_sub(worth);
                Some(Priority::Other)
            }
            (Some(_), None) => {
                self.owed = 0;
                Some(Priority::KnownDevice)
            }
            (None, None) => None,
        }
    }
}
