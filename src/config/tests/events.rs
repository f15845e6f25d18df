//! The events that not every installation wants.

use super::*;
use crate::auth::SessionEvents;

#[test]
fn the_network_of_a_caller_is_named_in_the_event_of_a_session_only() {
    use SessionEvents::{Off, WithNetwork, WithoutNetwork};
    let events = |args| load(args).auth.session_events;
    assert_eq!(events(""), Off);
    assert_eq!(events("--event-sessions false --event-network false"), Off);
    assert_eq!(events("--event-sessions true"), WithoutNetwork);
    assert_eq!(
        events("--event-sessions true --event-network true"),
        WithNetwork
    );
    let needs = ["EVENT_NETWORK: needs EVENT_SESSIONS=true"];
    assert_eq!(problems("--event-network true"), needs);
}
