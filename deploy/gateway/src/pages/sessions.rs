//! The sessions of the account, each with a button that ends it.

use std::time::UNIX_EPOCH;

use axum::{Form, extract::State, response::Response};
use maud::{Markup, html};
use prost_types::Timestamp;
use serde::Deserialize;
use tonic::Status;

use super::{
    notice::Notice,
    session::{self, SignedIn},
    view,
    visitor::Visitor,
};
use crate::{
    auth::{Auth, is_temporary, retrying},
    proto::{EndOtherSessionsRequest, EndSessionRequest, ListSessionsRequest, Session},
    routes::Shared,
};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Chosen {
    session_id: String,
}

pub async fn fetch(
    auth: &Auth,
    user: &SignedIn,
    visitor: &Visitor,
) -> Result<Vec<Session>, Status> {
    let fetched = retrying(is_temporary, || {
        let request = user.request(auth, ListSessionsRequest {}, visitor);
        let mut client = auth.account();
        async move { client.list_sessions(request).await }
    });
    Ok(fetched.await?.sessions)
}

pub async fn end(
    State(gateway): Shared,
    user: SignedIn,
    visitor: Visitor,
    Form(Chosen { session_id }): Form<Chosen>,
) -> Response {
    let is_own = session_id == user.claims.session_id.to_string();
    let message = EndSessionRequest { session_id };
    let ended = retrying(is_temporary, || {
        let request = user.request(&gateway.auth, message.clone(), &visitor);
        let mut client = gateway.auth.account();
        async move { client.end_session(request).await }
    });
    match ended.await {
        Ok(_) if is_own => session::forget(Notice::LoggedOut),
        Ok(_) => session::go("/account", Notice::SessionEnded),
        Err(status) => session::failed(status),
    }
}

pub async fn end_others(State(gateway): Shared, user: SignedIn, visitor: Visitor) -> Response {
    let ended = retrying(is_temporary, || {
        let request = user.request(&gateway.auth, EndOtherSessionsRequest {}, &visitor);
        let mut client = gateway.auth.account();
        async move { client.end_other_sessions(request).await }
    });
    match ended.await {
        Ok(_) => session::go("/account", Notice::OthersEnded),
        Err(status) => session::failed(status),
    }
}

pub fn section(sessions: &[Session]) -> Markup {
    html! {
        section.card.wide aria-labelledby="sessions" {
            h2 #sessions { "Where you are logged in" }
            ul.sessions { @for session in sessions { li { (row(session)) } } }
            @if sessions.len() > 1 {
                div.end {
                    (view::button("/account/sessions/end-others", None, &html! { "End all others" }))
                }
            }
        }
    }
}

fn row(session: &Session) -> Markup {
    let name = match session.device_name.as_str() {
        "" => "Unknown device",
        name => name,
    };
    html! {
        div {
            p.device { (name) @if session.current { " " span.badge.good { "this device" } } }
            p.more { "Used " (ago(session.last_used_at)) " · since " (date(session.created_at)) }
        }
        @if !session.current {
            (view::button(
                "/account/sessions/end",
                Some(("session_id", &session.session_id)),
                &html! { "End this one" span.unseen { ": " (name) } },
            ))
        }
    }
}

/// A day in a form that no country reads the wrong way round.
fn date(at: Option<Timestamp>) -> Markup {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let text = at.map(|at| at.to_string()).unwrap_or_default();
    let day = text.split('T').next().unwrap_or_default();
    let parts: Vec<usize> = day
        .split('-')
        .filter_map(|part| part.parse().ok())
        .collect();
    html! {
        @if let [year, month @ 1..=12, day_of_month] = parts[..] {
            time datetime=(day) { (day_of_month) " " (MONTHS[month * 3 - 3..month * 3]) " " (year) }
        }
    }
}

/// The reader's time zone is not known.
fn ago(at: Option<Timestamp>) -> String {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let at = at.and_then(|at| u64::try_from(at.seconds).ok());
    let (count, unit) = match now.saturating_sub(at.unwrap_or(now)) / 60 {
        0..=1 => return "just now".to_owned(),
        minutes @ 2..=119 => (minutes, "minutes"),
        minutes @ 120..=2879 => (minutes / 60, "hours"),
        minutes => (minutes / 60 / 24, "days"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_out() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let written = date(at(1_795_991_102)).into_string();
        assert_eq!(written, "<time datetime=\"2026-11-29\">29 Nov 2026</time>");
        assert!(date(at(0)).into_string().contains("1 Jan 1970"));
        assert_eq!(date(None).into_string(), "");
    }

    #[test]
    fn the_last_use_is_shown_in_words() {
        let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        let before = |seconds| {
            ago(Some(Timestamp {
                seconds: now - seconds,
                nanos: 0,
            }))
        };
        assert_eq!(before(-5), "just now");
        assert_eq!(before(30), "just now");
        assert_eq!(before(150 * 60 + 30), "2 hours ago");
        assert_eq!(before(10 * 60 + 30), "10 minutes ago");
        assert_eq!(before(49 * 3600), "2 days ago");
    }
}
