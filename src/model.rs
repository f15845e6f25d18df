//! The domain types of the service, and the pure functions on them.
//!
//! Every part of the service may use this one: it does no I/O and knows neither Diesel nor
//! tonic. The only impure calls take random bytes from the operating system. A value is parsed
//! once, at the edge: a type with private fields cannot hold an invalid value.

mod account;
mod administrator;
mod client_address;
mod data_key;
mod device_name;
mod device_token;
mod email;
mod event;
mod id;
mod import;
mod locale;
mod mail;
mod outbox;
mod password_seal;
mod personal_data;
mod refresh_token;
mod revocation;
mod roles;
mod session;
mod suspension;
mod throttle;
mod time;
mod traceparent;
mod transition;
pub mod unicode;
mod user;

pub use self::{
    account::{Account, AccountClaims, Credentials},
    administrator::{Administrator, Person},
    client_address::{ClientAddress, Network},
    data_key::{DataKey, DataKeys, DataSecrets, Fingerprint, Subkey},
    device_name::DeviceName,
    device_token::{DeviceLogin, DeviceToken},
    email::Email,
    event::{Act, Event, PasswordChangeCause, Payload, SessionEnd, SessionEndReason},
    id::{EventId, MailRequestId, ReplicaId, RevocationId, SessionId, TokenId, UserId},
    import::{
        ImportClaim, ImportRow, Imported, ImportedAccount, KnownAccounts, Rejection, plan_import,
    },
    locale::Locale,
    mail::{
        CHANGES_COUNT_FOR, ClaimedMail, MAX_CHANGES, MAX_CLAIMS, MailPurpose, MailRequest,
        MailToken,
    },
    outbox::{
        Backlog, Batch, ParkedEvent, PendingEvent, ReadEvent, in_user_order, users_without_first,
    },
    password_seal::{KeyMismatch, SealedWith, StoredHash},
    personal_data::{KeptEvent, KeptMail, KeptSession, PersonalData},
    refresh_token::RefreshToken,
    revocation::{Cursor, RecordedRevocation, Revocation, RevokedTokens},
    roles::Roles,
    session::{LiveSession, MAX_SESSIONS, Presented, Refreshable, Retry, Session, TokenTimes},
    suspension::{Suspension, SuspensionReason},
    throttle::{
        Claimant, Counter, CounterId, CounterLimits, Forgotten, Raise, ThrottleLimits, Window,
        mail_counters, registration_counters,
    },
    time::{Clock, Timestamp},
    traceparent::Traceparent,
    transition::{Form, Transition},
    user::{CountedUser, User},
};
