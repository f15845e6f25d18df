use super::job::Class;

/// The known devices' share of the rounds for each one of the others, while both wait.
const KNOWN_ROUNDS: u64 = 3;

/// Which class is next: a known device, unless the others that wait have got less
/// than a quarter of the rounds. It is a deficit round robin of two classes (Shreedhar and
/// Varghese, 1995) in which only the others need a deficit counter.
#[derive(Clone, Default)]
pub(super) struct Shares {
    /// The rounds of known devices that began while others waited, less [`KNOWN_ROUNDS`] for
    /// each round of the others since then.
    deficit: u64,
}

impl Shares {
    /// The class of the next job, which begins now. The arguments are the rounds of the first
    /// job of each class.
    pub(super) fn next(&mut self, known: Option<u32>, other: Option<u32>) -> Option<Class> {
        let needed = other.map(|rounds| KNOWN_ROUNDS * u64::from(rounds));
        match (known, needed) {
            (Some(known), Some(needed)) if self.deficit < needed => {
                self.deficit += u64::from(known);
                Some(Class::KnownDevices)
            }
            (_, Some(needed)) => {
                self.deficit = self.deficit.saturating_sub(needed);
                Some(Class::Others)
            }
            (Some(_), None) => {
                self.deficit = 0;
                Some(Class::KnownDevices)
            }
            (None, None) => None,
        }
    }
}
