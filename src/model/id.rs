//! The ids of users, sessions, events, mail requests, revocations, replicas and access tokens: UUIDv7 (RFC 9562). Rows are
//! stored in the order of their creation, so a primary key is also an index by age.

use std::fmt;

use uuid::{NoContext, Uuid};

use super::Timestamp;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            pub fn new(now: Timestamp) -> Self {
                Self(uuid_v7(now))
            }

            /// Reads an id: a UUID with hyphens, in any case.
            pub fn parse(text: &str) -> Option<Self> {
                let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
                let id = hyphenated.then(|| Uuid::try_parse(text).ok())?;
                id.map(Self)
            }

            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Big-endian.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            /// Lower-case text with hyphens.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    )+};
}

id! {
    UserId;
    /// The `sid` of the session's access tokens.
    SessionId;
    /// The same in every copy of the event.
    EventId;
    /// Names a mail that was asked for. It is no secret.
    MailRequestId;
    /// Tells a revocation that was read before from a new one.
    RevocationId;
    /// Identifies the process that holds the outbox lease.
    ReplicaId;
    /// The `jti` of an access token.
    TokenId;
}

fn uuid_v7(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.as_micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000 * 1000).expect("below 10^9");
    let time = uuid::Timestamp::from_unix(NoContext, micros / 1_000_000, nanos);
    Uuid::new_v7(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_with_hyphens_in_any_case() {
        let id = SessionId::new(Timestamp::from_micros(1_764_024_172_000_001));
        let text = id.to_string();
        assert_eq!(SessionId::parse(&text), Some(id));
        assert_eq!(SessionId::parse(&text.to_uppercase()), Some(id));
        for malformed in [
            "",
            "junk",
            &text[1..],
            &format!("{text} "),
            &format!("{{{text}}}"),
            &format!("urn:uuid:{text}"),
            &text.replace('-', ""),
            &text.replace('-', "_"),
        ] {
            assert_eq!(SessionId::parse(malformed), None, "{malformed:?}");
        }
    }
}
