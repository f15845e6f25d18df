//! The mails whose recipients the SMTP server puts off.
//!
//! They wait long, and anybody can make some: it is enough to name an address whose server is not
//! there. They are therefore no reason to read no more records, and the oldest is given up when
//! there are too many.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use tokio_util::sync::CancellationToken;

/// Kafka holds the numbers of that many records beside an offset: see `progress`.
const MOST: usize = 500;

#[derive(Default)]
pub struct PutOff {
    mails: Mutex<Mails>,
}

#[derive(Default)]
struct Mails {
    last: u64,
    /// The oldest first.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// One of these mails, until it is dropped.
pub struct Place<'a> {
    list: &'a PutOff,
    number: u64,
}

impl PutOff {
    /// `give_up` is cancelled when there are too many newer ones.
    #[must_use]
    pub fn add(&self, give_up: CancellationToken) -> Place<'_> {
        let mut mails = self.mails();
        mails.last += 1;
        let number = mails.last;
        mails.waiting.insert(number, give_up);
        if mails.waiting.len() > MOST
            && let Some((_, oldest)) = mails.waiting.pop_first()
        {
            oldest.cancel();
        }
        Place { list: self, number }
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.mails().waiting.len()
    }

    fn mails(&self) -> MutexGuard<'_, Mails> {
        self.mails.lock().expect("no panic while locked")
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.list.mails().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_given_up_when_there_are_too_many() {
        let put_off = PutOff::default();
        let tokens: Vec<_> = (0..=MOST).map(|_| CancellationToken::new()).collect();
        let mut places: Vec<_> = tokens.iter().map(|it| put_off.add(it.clone())).collect();
        assert_eq!(put_off.count(), MOST);
        assert!(tokens[0].is_cancelled());
        assert!(tokens[1..].iter().all(|it| !it.is_cancelled()));
        places.pop();
        assert_eq!(put_off.count(), MOST - 1);
        places.clear();
        assert_eq!(put_off.count(), 0);
    }
}
