//! An error of the service as a form shows it: a text beside the field that it is about.

use std::time::Duration;

use axum::http::StatusCode;
use tonic::Status;

use crate::error::{Explained, bad_fields};

/// Empty if all is well.
#[derive(Default)]
pub struct Failure {
    pub http: StatusCode,
    pub retry_after: Option<Duration>,
    pub errors: Vec<FieldError>,
    /// When a suspension ends.
    pub until: Option<String>,
    reason: String,
}

pub struct FieldError {
    /// The field's name; `None` if the error is about none.
    pub field: Option<String>,
    pub text: String,
}

impl Failure {
    /// Shows this text, beside this field, if the reason is the given one.
    #[must_use]
    pub fn say(mut self, reason: &str, field: Option<&str>, text: &str) -> Self {
        if self.is(reason) {
            self.errors = vec![FieldError {
                field: field.map(str::to_owned),
                text: text.to_owned(),
            }];
        }
        self
    }

    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// The text beside a field.
    pub fn at(&self, field: &str) -> Option<&str> {
        let mut errors = self.errors.iter();
        let found = errors.find(|error| error.field.as_deref() == Some(field));
        found.map(|error| error.text.as_str())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let explained = Explained::of(&status);
        let mut errors: Vec<_> = bad_fields(&status)
            .map(|(field, problem)| about(field, &problem))
            .collect();
        if errors.is_empty() {
            errors.push(FieldError {
                field: None,
                text: general(&explained),
            });
        }
        Self {
            http: explained.http,
            retry_after: explained.retry_after,
            errors,
            until: explained.until,
            reason: explained.reason,
        }
    }
}

/// A sentence of the service's words, which have no subject: "must have at least 8 characters".
fn about(field: String, problem: &str) -> FieldError {
    let (field, subject) = match field.as_str() {
        "email" => (Some(field), "The address"),
        "new_email" => (Some(field), "The new address"),
        "password" => (Some(field), "The password"),
        "current_password" => (Some(field), "The current password"),
        "new_password" => (Some(field), "The new password"),
        "token" | "reset_token" => (Some("token".to_owned()), "The code"),
        _ => (None, "Something that your browser sent"),
    };
    // The spelling of the pages, which never breaks at the hyphen.
    let problem = problem.replace("e-mail", "email");
    let text = format!("{subject} {problem}.");
    FieldError { field, text }
}

fn general(error: &Explained) -> String {
    let when = wait(error.retry_after.unwrap_or(Duration::from_secs(1)));
    match error.reason.as_str() {
        "TOO_MANY_ATTEMPTS" => format!("There were too many attempts. Try again in {when}."),
        "OVERLOADED" | "UNAVAILABLE" => {
            format!("We cannot answer at the moment. Try again in {when}.")
        }
        _ => "Something went wrong on our side. Try again in a minute.".to_owned(),
    }
}

/// Rounded up: never too early.
fn wait(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let (count, unit) = match seconds {
        0..=90 => (seconds.max(1), "second"),
        91..=5400 => (seconds.div_ceil(60), "minute"),
        _ => (seconds.div_ceil(3600), "hour"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up() {
        let texts = [1, 45, 90, 91, 3600, 5401].map(|seconds| wait(Duration::from_secs(seconds)));
        let expected = [
            "1 second",
            "45 seconds",
            "90 seconds",
            "2 minutes",
            "60 minutes",
            "2 hours",
        ];
        assert_eq!(texts, expected);
        assert_eq!(wait(Duration::from_millis(1001)), "2 seconds");
    }
}
