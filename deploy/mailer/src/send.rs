//! Sends mails by SMTP, command by command: what a failure means depends on the command.
//!
//! Before the mail's content nothing was sent, and another attempt does no harm. An answer to the
//! recipient (RCPT) may be about this mail only. If the answer to the content is missing, nobody
//! knows whether the server took the mail (RFC 1047).

use std::time::Duration;

use anyhow::Context as _;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        commands::{Data, Mail as MailFrom, Rcpt},
        extension::{Extension, MailBodyParameter, MailParameter},
    },
};

use crate::{
    claim::Mail,
    render::Rendered,
    settings,
    smtp::{Connection, Failed, LIMIT, Server, within},
};

/// For the answer to a mail's content: RFC 5321, section 4.5.3.2.6. Servers scan mails, and one
/// that ends the wait too early sends a mail twice.
const CONTENT_LIMIT: Duration = Duration::from_mins(10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    Taken,
    /// The server will never take it. Says why, without the address.
    Refused(String),
    /// The server does not take mails to this recipient now.
    PutOff(u16),
    /// The server has the mail, but did not say whether it took it.
    Unanswered,
}

pub struct Sender {
    server: Server,
    from: Mailbox,
}

impl Sender {
    /// Connects when it is first used.
    pub fn new(settings: &settings::Smtp) -> anyhow::Result<Self> {
        Ok(Self {
            server: Server::new(&settings.url).context("SMTP_URL")?,
            from: settings.from.clone(),
        })
    }

    /// Fails if the server cannot be reached or does not accept the login.
    pub async fn connect(&self) -> Result<Connection, Failed> {
        self.server.connect().await
    }

    /// Keeps a connection that was not used.
    pub fn keep(&self, connection: Connection) {
        self.server.keep(connection);
    }

    /// Sends by a connection of `connect`. A failure means that the server has no mail, and may
    /// take none now.
    pub async fn send(
        &self,
        mut connection: Connection,
        mail: &Mail,
        rendered: Rendered,
    ) -> Result<Sent, Failed> {
        let Some((to, content)) = self.content(mail, rendered) else {
            return Ok(Sent::Refused("the address cannot be written".to_owned()));
        };
        let mut parameters = Vec::new();
        if !mail.email.is_ascii() {
            if !connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                return Ok(Sent::Refused("the server lacks SMTPUTF8".to_owned()));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let from = MailFrom::new(Some(self.from.email.clone()), parameters);
        let sent = transaction(&mut connection, from, Rcpt::new(to, Vec::new()), content).await;
        let is_answered = match &sent {
            Ok(sent) => *sent != Sent::Unanswered,
            Err(failed) => failed.code().is_some(),
        };
        if is_answered {
            self.server.keep(connection);
        }
        sent
    }

    /// The recipient, and the content as it is sent, with its end.
    fn content(&self, mail: &Mail, rendered: Rendered) -> Option<(Address, String)> {
        let to: Address = mail.email.parse().ok()?;
        let message = self.message(mail, to.clone(), rendered)?;
        let text = String::from_utf8(message.formatted()).ok()?;
        let content = text.replace("\r\n.", "\r\n..") + "\r\n.\r\n";
        Some((to, content))
    }

    fn message(&self, mail: &Mail, to: Address, rendered: Rendered) -> Option<Message> {
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

async fn transaction(
    connection: &mut Connection,
    from: MailFrom,
    to: Rcpt,
    content: String,
) -> Result<Sent, Failed> {
    within(LIMIT, connection.command(from)).await?;
    if let Err(failed) = within(LIMIT, connection.command(to)).await {
        return match failed.code() {
            None | Some(421) => Err(failed),
            Some(code) => Ok(refusal(&failed).unwrap_or(Sent::PutOff(code))),
        };
    }
    within(LIMIT, connection.command(Data)).await?;
    // In one write: lettre's own function writes the end apart, and the kernel holds it back until
    // the server has acknowledged the rest, after 40 ms (Nagle's algorithm).
    match within(CONTENT_LIMIT, connection.command(content)).await {
        Ok(_) => Ok(Sent::Taken),
        Err(failed) if failed.code().is_none() => Ok(Sent::Unanswered),
        Err(failed) => refusal(&failed).ok_or(failed),
    }
}

fn refusal(failed: &Failed) -> Option<Sent> {
    let code = failed.code()?;
    is_final(code, &failed.words()).then(|| Sent::Refused(format!("it answered {code}")))
}

/// Whether the server says that no later attempt can succeed, and that other mails can. Only the
/// codes of RFC 3463 say so: X.1 is about addresses (X.1.7 and X.1.8 about the sender's), X.2
/// about the mailbox. `550` and `554` alone are also said to all mails: relaying is denied, or a
/// quota is reached.
fn is_final(code: u16, words: &str) -> bool {
    let enhanced = words.split_whitespace().next().unwrap_or_default();
    let is_about_recipient = match enhanced.strip_prefix("5.") {
        Some("1.7" | "1.8") | None => false,
        Some(detail) => detail.starts_with("1.") || detail.starts_with("2."),
    };
    (500..600).contains(&code) && is_about_recipient
}

#[cfg(test)]
mod tests;
