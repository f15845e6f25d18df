//! Sends mails by SMTP.

use std::{error::Error as _, fmt, time::Duration};

use anyhow::Context as _;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{Error, PoolConfig},
};

use crate::{claim::Mail, render::Rendered, settings};

/// The time limit for connecting, and for each answer of the server.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the server said to a mail, if it said something final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    Taken,
    /// The server will never take it. Says why, without the address.
    Refused(String),
}

/// A fault that may end. Its text never holds the server's words, which often name the address.
#[derive(Debug)]
pub struct Failed(Error);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.status() {
            Some(code) => write!(f, "the SMTP server answered {code}"),
            None if self.0.is_timeout() => f.write_str("the SMTP server did not answer in time"),
            None if self.0.is_tls() => f.write_str("TLS with the SMTP server failed"),
            None => f.write_str("the connection to the SMTP server failed"),
        }
    }
}

pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Smtp {
    /// Connects when it is first used, and keeps up to `connections`.
    pub fn new(settings: &settings::Smtp, connections: u32) -> anyhow::Result<Self> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.url)
            .map_err(|_| anyhow::anyhow!("it is no smtp:// or smtps:// URL"))
            .context("SMTP_URL")? // the error would show the password
            .timeout(Some(TIMEOUT))
            .pool_config(PoolConfig::new().max_size(connections))
            .build();
        let from = settings.from.clone();
        Ok(Self { transport, from })
    }

    /// Whether the server can be reached and accepts the login.
    pub async fn check(&self) -> Result<(), Failed> {
        self.transport.test_connection().await.map_err(Failed)?;
        Ok(())
    }

    pub async fn send(&self, mail: &Mail, rendered: Rendered) -> Result<Sent, Failed> {
        let Some(message) = self.message(mail, rendered) else {
            return Ok(Sent::Refused("the address cannot be written".to_owned()));
        };
        match self.transport.send(message).await {
            Ok(_) => Ok(Sent::Taken),
            Err(error) => refusal(&error).map(Sent::Refused).ok_or(Failed(error)),
        }
    }

    fn message(&self, mail: &Mail, rendered: Rendered) -> Option<Message> {
        let to: Address = mail.email.parse().ok()?;
        // Both copies of a mail that is sent twice have the same id: some servers drop one.
        let id = format!("<{}@{}>", mail.request_id, self.from.email.domain());
        // RFC 3834: no out-of-office replies.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let body = MultiPart::alternative_plain_html(rendered.text, rendered.html);
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(rendered.subject)
            .message_id(Some(id))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .multipart(body)
            .ok()
    }
}

/// The reason if no later attempt can succeed.
fn refusal(error: &Error) -> Option<String> {
    let words = error.source().map(ToString::to_string).unwrap_or_default();
    match error.status() {
        Some(code) => is_refusal(code.into(), &words).then(|| format!("it answered {code}")),
        // Such as an address that needs SMTPUTF8.
        None if error.is_client() => Some("it lacks an extension that the mail needs".to_owned()),
        None => None,
    }
}

/// Whether the server refuses this mail, and not every mail. RFC 5321: 55x is about the mail or
/// its recipient, other 5xx about commands and logins; 556 is of RFC 7504. RFC 3463: X.1.7 and
/// X.1.8 are about the sender, which is the same in all mails.
fn is_refusal(code: u16, words: &str) -> bool {
    let is_about_sender = words.starts_with("5.1.7") || words.starts_with("5.1.8");
    matches!(code, 550..=554 | 556) && !is_about_sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_of_a_mail_are_final() {
        for (code, words) in [(550, "5.1.1 no such user"), (552, ""), (554, "5.7.1 spam")] {
            assert!(is_refusal(code, words), "{code} {words}");
        }
        let others = [
            (421, "4.3.2 shutting down"),
            (450, "4.2.1 greylisted"),
            (452, "4.3.1 disk full"),
            (500, "unknown command"),
            (503, "bad sequence"),
            (530, "5.7.0 log in first"),
            (535, "5.7.8 wrong password"),
            (553, "5.1.8 unknown sender domain"),
        ];
        for (code, words) in others {
            assert!(!is_refusal(code, words), "{code} {words}");
        }
    }
}
