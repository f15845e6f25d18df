//! Picks the records that ask for a mail.

use prost::Message as _;

use crate::{
    proto::{UserEvent, user_event::Payload},
    render::Purpose,
};

/// A mail that an event asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRequest {
    /// Names the event in all its copies.
    pub event_id: String,
    pub request_id: String,
}

/// `None` for another kind of event. A record that cannot be read, and a purpose that this
/// version does not know, are errors: the caller logs and skips them.
pub fn mail_request(record: &[u8]) -> Result<Option<MailRequest>, &'static str> {
    let event = UserEvent::decode(record).map_err(|_| "it is no UserEvent")?;
    let Some(Payload::MailRequested(request)) = event.payload else {
        return Ok(None);
    };
    Purpose::parse(request.purpose).ok_or("this mailer does not know the mail's purpose")?;
    Ok(Some(MailRequest {
        event_id: event.event_id,
        request_id: request.request_id,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{MailRequested, UserCreated};

    fn record(payload: Option<Payload>) -> Vec<u8> {
        let event = UserEvent {
            event_id: "event".to_owned(),
            payload,
            ..UserEvent::default()
        };
        event.encode_to_vec()
    }

    fn requested(purpose: i32) -> Vec<u8> {
        record(Some(Payload::MailRequested(MailRequested {
            request_id: "request".to_owned(),
            purpose,
            expires_at: None,
        })))
    }

    #[test]
    fn only_mail_requests_are_picked() {
        let expected = MailRequest {
            event_id: "event".to_owned(),
            request_id: "request".to_owned(),
        };
        assert_eq!(mail_request(&requested(2)), Ok(Some(expected)));
        let created = Payload::UserCreated(UserCreated::default());
        assert_eq!(mail_request(&record(Some(created))), Ok(None));
        // A kind of event of a newer version has no payload for this one.
        assert_eq!(mail_request(&record(None)), Ok(None));
    }

    #[test]
    fn unreadable_records_and_unknown_purposes_are_errors() {
        assert!(mail_request(b"\xff\xff\xff").is_err());
        assert!(mail_request(&requested(0)).is_err());
        assert!(mail_request(&requested(99)).is_err());
    }
}
