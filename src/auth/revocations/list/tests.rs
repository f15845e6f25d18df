use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    auth::revocations::reader::BACK,
    model::{RevokedTokens, SessionId},
};

const START: Timestamp = Timestamp::from_micros(1_764_024_172_000_000);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// A read while all clocks agree.
const fn at(now: Timestamp) -> Read {
    Read {
        number: 0,
        at: now,
        now,
    }
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn recorded(number: u8, recorded_at: Timestamp) -> RecordedRevocation {
    RecordedRevocation {
        id: RevocationId::from_bytes([number; 16]),
        revocation: Revocation {
            tokens: RevokedTokens::Session(session(number)),
            until: recorded_at + HOUR,
        },
        recorded_at,
    }
}

/// A list that has these numbers of rows, recorded at the second of their number.
fn list(numbers: impl IntoIterator<Item = u8>) -> List {
    let mut list = List::default();
    let found = numbers
        .into_iter()
        .map(|it| recorded(it, START + SECOND * it.into()));
    list.add(found.collect(), START);
    list.complete(at(START));
    list
}

/// All pages up to the end.
fn rest(list: &List, place: &mut Place) -> (Vec<SessionId>, Cursor) {
    let mut all = Vec::new();
    loop {
        let Page { revoked, end } = list.page(place);
        all.extend(revoked.iter().map(|it| match it.tokens {
            RevokedTokens::Session(id) => id,
            RevokedTokens::User(..) => unreachable!("the tests revoke sessions"),
        }));
        if let Some(cursor) = end {
            return (all, cursor);
        }
    }
}

fn sessions(numbers: impl IntoIterator<Item = u8>) -> Vec<SessionId> {
    numbers.into_iter().map(session).collect()
}

#[test]
fn a_watcher_receives_each_revocation_once_in_the_order_of_the_reads() {
    let mut list = list([2, 1]);
    let mut place = Place::default();
    assert_eq!(rest(&list, &mut place).0, sessions([2, 1]));
    assert_eq!(rest(&list, &mut place).0, sessions([]));
    list.add(
        vec![recorded(1, START), recorded(0, START - FAR_BACK + SECOND)],
        START,
    );
    assert_eq!(rest(&list, &mut place).0, sessions([0]));
}

#[test]
fn a_cursor_leads_to_what_was_recorded_later_and_a_while_before() {
    let mut list = list([1, 2]);
    list.add(vec![recorded(3, START - FAR_BACK + SECOND)], START);
    list.add(vec![recorded(4, START - FAR_BACK * 2)], START);
    let (_, cursor) = rest(&list, &mut Place::default());
    let mut place = list.find(cursor).expect("it is of this list");
    assert_eq!(rest(&list, &mut place).0, sessions([1, 2, 3]));
    // The way back counts only for what was there when the watcher came.
    list.add(vec![recorded(5, START - FAR_BACK * 2)], START);
    assert_eq!(rest(&list, &mut place).0, sessions([5]));
}

#[test]
fn a_cursor_that_is_too_old_or_from_the_future_leads_nowhere() {
    let list = list([]);
    let microsecond = Duration::from_micros(1);
    let is_known = |at| list.find(Cursor::new(at)).is_some();
    assert!(is_known(START - Cursor::LONGEST));
    assert!(!is_known(START - Cursor::LONGEST - microsecond));
    assert!(is_known(START + FAR_BACK));
    assert!(!is_known(START + FAR_BACK + microsecond));
    assert!(!is_known(Timestamp::from_micros(i64::MAX)));
    assert!(!is_known(Timestamp::from_micros(i64::MIN)));
    assert!(List::default().find(Cursor::new(START)).is_none());
}

#[test]
fn what_has_expired_is_in_no_page_and_takes_no_memory() {
    let mut list = list([1]);
    let end = START + SECOND + HOUR + Revocation::CLOCK_SKEW;
    for (now, held) in [(end, 1), (end + SECOND, 0)] {
        list.complete(at(now));
        assert_eq!(rest(&list, &mut Place::default()).0.len(), held);
        list.forget();
        assert_eq!(list.entries.len(), held);
    }
    assert!(list.recent.is_empty());
    // Later ones have other numbers: a watcher that waits at the end receives them.
    let mut place = Place::default();
    let (_, cursor) = rest(&list, &mut place);
    assert_eq!(cursor.read_at(), end + SECOND);
    list.add(vec![recorded(2, end)], end);
    assert_eq!(rest(&list, &mut place).0, sessions([2]));
}

#[test]
fn nothing_expires_by_a_clock_that_is_ahead() {
    let mut list = list([1]);
    let ahead = Read {
        number: 1,
        at: START + HOUR * 24,
        now: START,
    };
    list.complete(ahead);
    list.forget();
    assert_eq!(rest(&list, &mut Place::default()).0, sessions([1]));
}

#[test]
fn a_page_ends_before_the_list_when_there_is_much() {
    let mut list = List::default();
    let found = |number: usize| RecordedRevocation {
        id: RevocationId::from_bytes((number as u128).to_be_bytes()),
        ..recorded(1, START)
    };
    list.add((0..=PAGE).map(found).collect(), START);
    list.complete(at(START));
    let mut place = Place::default();
    let page = list.page(&mut place);
    assert_eq!((page.revoked.len(), page.end), (PAGE, None));
    let page = list.page(&mut place);
    assert_eq!(
        (page.revoked.len(), page.end),
        (1, Some(Cursor::new(START)))
    );
}

/// A row of the database: when it was recorded, and how long its commit took.
#[derive(Clone, Debug)]
struct Row {
    recorded_at: Timestamp,
    visible_at: Timestamp,
}

fn row() -> impl Strategy<Value = Row> {
    let delay = prop_oneof![5 => 0..2_u64, 2 => 2..30_u64, 1 => 30..100_u64];
    (0..1_000_u64, delay).prop_map(|(recorded, delay)| {
        let recorded_at = START + SECOND * u32::try_from(recorded).expect("small");
        Row {
            recorded_at,
            visible_at: recorded_at + Duration::from_secs(delay),
        }
    })
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// One of the two replicas reads, after some seconds.
    Read { replica: usize, seconds: u32 },
    /// The watcher takes what its replica has.
    Take,
    /// The watcher goes to the other replica with its cursor.
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize, 0..20_u32)
            .prop_map(|(replica, seconds)| Step::Read { replica, seconds }),
        3 => Just(Step::Take),
        1 => Just(Step::Move),
    ]
}

/// A replica, and when it last read far back.
#[derive(Default)]
struct Replica {
    list: List,
    far_read_at: Option<Timestamp>,
}

fn read(replica: &mut Replica, rows: &[Row], now: Timestamp) {
    let Replica { list, far_read_at } = replica;
    let is_far = far_read_at.is_none_or(|at| now.since(at) >= SECOND * 15);
    if is_far {
        *far_read_at = Some(now);
    }
    let back = if is_far { FAR_BACK } else { BACK };
    let from = list.read_at().map(|at| at.min(now) - back);
    let found = (0..).zip(rows).filter(|(_, row)| {
        row.visible_at <= now && from.is_none_or(|from| row.recorded_at >= from)
    });
    let found = found.map(|(number, row)| recorded(number, row.recorded_at));
    list.add(found.collect(), now);
    list.complete(at(now));
}

proptest! {
    /// However long commits take, and at whichever replica the watcher is.
    #[test]
    fn a_watcher_that_moves_between_replicas_misses_nothing(
        rows in prop::collection::vec(row(), 0..40),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut replicas = [Replica::default(), Replica::default()];
        for replica in &mut replicas {
            read(replica, &rows, START);
        }
        let (mut now, mut at, mut place) = (START, 0, Place::default());
        let mut received = BTreeSet::new();
        let mut cursor = None;
        for step in steps {
            match step {
                Step::Read { replica, seconds } => {
                    now = now + SECOND * seconds;
                    read(&mut replicas[replica], &rows, now);
                }
                Step::Take => {
                    let (new, end) = rest(&replicas[at].list, &mut place);
                    received.extend(new);
                    cursor = Some(end);
                }
                Step::Move => {
                    at = 1 - at;
                    place = cursor.and_then(|it| replicas[at].list.find(it)).unwrap_or_default();
                }
            }
        }
        now = now + SECOND * 2_000;
        read(&mut replicas[at], &rows, now);
        received.extend(rest(&replicas[at].list, &mut place).0);
        for (number, _) in (0..).zip(&rows) {
            prop_assert!(received.contains(&session(number)), "row {number}");
        }
    }
}
