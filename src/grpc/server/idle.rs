//! Which connections run no call, in the order in which they became idle.
//!
//! A connection is idle from its start until its first call, and after each call that leaves
//! no other call running. Only calls count: a client that pings is not in use.

use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(u64);

#[derive(Debug)]
enum State {
    /// Since this moment: a key of `idle`.
    Idle(u64),
    /// The number of running calls.
    Busy(usize),
}

#[derive(Debug, Default)]
pub(super) struct IdleOrder {
    states: HashMap<ConnectionId, State>,
    idle: BTreeMap<u64, ConnectionId>,
    /// Counts the moments. Wall clocks may go back.
    now: u64,
}

impl IdleOrder {
    pub(super) fn open(&mut self) -> ConnectionId {
        let id = ConnectionId(self.now);
        self.become_idle(id);
        id
    }

    pub(super) fn begin_call(&mut self, id: ConnectionId) {
        match self.states.get_mut(&id) {
            Some(State::Busy(calls)) => *calls += 1,
            Some(State::Idle(since)) => {
                self.idle.remove(since);
                self.states.insert(id, State::Busy(1));
            }
            // It is being closed.
            None => {}
        }
    }

    pub(super) fn end_call(&mut self, id: ConnectionId) {
        match self.states.get_mut(&id) {
            Some(State::Busy(1)) => self.become_idle(id),
            Some(State::Busy(calls)) => *calls -= 1,
            Some(State::Idle(_)) | None => {}
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(State::Idle(since)) = self.states.remove(&id) {
            self.idle.remove(&since);
        }
    }

    /// Removes the connection that has been idle the longest, so that it is chosen once.
    pub(super) fn take_longest_idle(&mut self) -> Option<ConnectionId> {
        let (_, id) = self.idle.pop_first()?;
        self.states.remove(&id);
        Some(id)
    }

    fn become_idle(&mut self, id: ConnectionId) {
        self.states.insert(id, State::Idle(self.now));
        self.idle.insert(self.now, id);
        self.now += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_connection_that_has_been_idle_the_longest_is_taken_first() {
        let mut order = IdleOrder::default();
        let [a, b, c, d] = [(); 4].map(|()| order.open());
        order.begin_call(a);
        order.end_call(a);
        order.begin_call(c);
        order.close(d);
        let taken = [(); 3].map(|()| order.take_longest_idle());
        assert_eq!(taken, [Some(b), Some(a), None]);
        order.end_call(c);
        assert_eq!(order.take_longest_idle(), Some(c));
    }

    #[test]
    fn a_connection_is_busy_until_its_last_call_has_ended() {
        let mut order = IdleOrder::default();
        let id = order.open();
        for _ in 0..3 {
            order.begin_call(id);
        }
        for _ in 0..2 {
            order.end_call(id);
            assert_eq!(order.take_longest_idle(), None);
        }
        order.end_call(id);
        assert_eq!(order.take_longest_idle(), Some(id));
    }

    #[test]
    fn a_connection_that_is_gone_leaves_nothing_behind() {
        let mut order = IdleOrder::default();
        let (taken, busy) = (order.open(), order.open());
        order.begin_call(busy);
        assert_eq!(order.take_longest_idle(), Some(taken));
        for id in [taken, busy] {
            order.close(id);
            order.begin_call(id);
            order.end_call(id);
            order.close(id);
        }
        assert!(order.states.is_empty() && order.idle.is_empty());
    }

    proptest! {
        /// Against a list of connections with the moment of their last act.
        #[test]
        fn it_agrees_with_a_simple_model(acts in prop::collection::vec((0..5_u8, 0..8_usize), 0..200)) {
            let mut order = IdleOrder::default();
            let mut model: Vec<(ConnectionId, usize)> = Vec::new();
            for (act, index) in acts {
                let at = index % model.len().max(1);
                match act {
                    0 => model.push((order.open(), 0)),
                    1 => {
                        let expected = model.iter().position(|(_, calls)| *calls == 0);
                        let expected = expected.map(|at| model.remove(at).0);
                        prop_assert_eq!(order.take_longest_idle(), expected);
                    }
                    _ if model.is_empty() => {}
                    2 => {
                        model[at].1 += 1;
                        order.begin_call(model[at].0);
                    }
                    3 if model[at].1 > 0 => {
                        let (id, calls) = model.remove(at);
                        order.end_call(id);
                        // The list is in the order of the last change to idle.
                        model.push((id, calls - 1));
                    }
                    4 => order.close(model.remove(at).0),
                    _ => {}
                }
            }
        }
    }
}
