//! The parsers of arguments. They do not repeat the value in an error: it may be an address.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap::{
    Arg,
    builder::{TypedValueParser, ValueParserFactory},
    error::ErrorKind,
};

use crate::{
    auth::UserRef,
    config::value::{self, DAY},
    model::{Email, SessionId, SuspensionReason, Timestamp, UserId},
};

/// The end of a suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    At(Timestamp),
    /// From now.
    In(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// Standard input or output.
    Standard,
    Path(PathBuf),
}

fn user(text: &str) -> Result<UserRef, String> {
    if text.contains('@') {
        let email = Email::parse(text);
        return Ok(UserRef::Email(
            email.map_err(|what| format!("{what}; or use the id"))?,
        ));
    }
    let id = UserId::parse(text).map(UserRef::Id);
    id.ok_or_else(|| "must be the id (a UUID) or the e-mail address of an account".into())
}

fn session(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).ok_or_else(|| "must be the id (a UUID) of a session".into())
}

fn reason(text: &str) -> Result<SuspensionReason, String> {
    Ok(SuspensionReason::parse(text.to_owned())?)
}

fn until(text: &str) -> Result<Until, String> {
    if let Some(time) = Timestamp::parse(text) {
        return Ok(Until::At(time));
    }
    let from_now = value::duration(text, Duration::from_secs(1)..=3650 * DAY);
    from_now
        .map(Until::In)
        .map_err(|what| format!("{what}; or a time with its zone, such as 2026-12-31T00:00:00Z"))
}

fn file(text: &str) -> Result<File, String> {
    match text {
        "" => Err("must not be empty".into()),
        "-" => Ok(File::Standard),
        path => Ok(File::Path(path.into())),
    }
}

#[derive(Clone)]
pub struct Parser<T>(fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Parser<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let text = value.to_str().ok_or("must be UTF-8".to_owned());
        text.and_then(self.0).map_err(|what| {
            let name = arg.map(ToString::to_string).unwrap_or_default();
            let message = format!("{name}: {what}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

macro_rules! parsers {
    ($($type:ty: $parse:ident),+) => {$(
        impl ValueParserFactory for $type {
            type Parser = Parser<Self>;

            fn value_parser() -> Self::Parser {
                Parser($parse)
            }
        }
    )+};
}

parsers!(UserRef: user, SessionId: session, SuspensionReason: reason, Until: until, File: file);
