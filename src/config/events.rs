//! The events that not every installation wants.

use super::{
    reader::Reader,
    value::one_of,
    variable::{value, variables},
};
use crate::auth::SessionEvents;

variables! {
    "Events"

    /// true: each start of a session has an event, SESSION_STARTED
    EVENT_SESSIONS: bool = value("BOOL", switch).default("false");
    /// true: SESSION_STARTED names the network of the caller, a /24 or /48
    EVENT_NETWORK: bool = value("BOOL", switch).default("false");
}

fn switch(text: &str) -> Result<bool, String> {
    one_of(text, &[("true", true), ("false", false)])
}

pub(super) fn read(reader: &mut Reader<'_>) -> SessionEvents {
    let (sessions, network) = (reader.value(&EVENT_SESSIONS), reader.value(&EVENT_NETWORK));
    if network && !sessions {
        reader.problem(EVENT_NETWORK.name(), "needs EVENT_SESSIONS=true");
    }
    match (sessions, network) {
        (false, _) => SessionEvents::Off,
        (true, false) => SessionEvents::WithoutNetwork,
        (true, true) => SessionEvents::WithNetwork,
    }
}
