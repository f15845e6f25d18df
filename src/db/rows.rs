//! How model types are read from the tables. (Derives in `model` would tie it to Diesel.)

use diesel::{
    backend::Backend,
    deserialize::{self, FromStaticSqlRow},
    dsl::SqlTypeOf,
    prelude::*,
};

use super::{
    schema::{mail_requests, outbox_events, sessions, users},
    sessions::FIRST_GENERATION,
};
use crate::model::{
    Account, AccountClaims, Credentials, EventId, KeptEvent, KeptMail, KeptSession, LiveSession,
    MailRequestId, ParkedEvent, PendingEvent, Roles, Session, SessionId, Suspension, Timestamp,
    TokenTimes, User, UserId,
};

/// Each entry: a table, the columns to select, and the value that they make.
macro_rules! rows {
    ($($table:ident { $($column:ident: $type:ty),+ } => $model:ident { $($fields:tt)+ })+) => {$(
        impl<DB: Backend> Selectable<DB> for $model {
            type SelectExpression = ($($table::$column,)+);

            fn construct_selection() -> Self::SelectExpression {
                ($($table::$column,)+)
            }
        }

        impl<DB: Backend> Queryable<SqlTypeOf<($($table::$column,)+)>, DB> for $model
        where
            ($($type,)+): FromStaticSqlRow<SqlTypeOf<($($table::$column,)+)>, DB>,
        {
            type Row = ($($type,)+);

            fn build(($($column,)+): Self::Row) -> deserialize::Result<Self> {
                Ok(Self { $($fields)+ })
            }
        }
    )+};
}

rows! {
    users {
        id: UserId, email: String, created_at: Timestamp, password_changed_at: Timestamp,
        email_verified_at: Option<Timestamp>, roles: String
    } => Account {
        user_id: id, email, created_at, password_changed_at, email_verified_at,
        roles: Roles::from_stored(roles)
    }

    users {
        id: UserId, password_hash: String, password_changed_at: Timestamp,
        email_verified_at: Option<Timestamp>, roles: String,
        suspended_at: Option<Timestamp>, suspended_until: Option<Timestamp>,
        suspension_reason: Option<String>
    } => Credentials {
        user_id: id, password_hash, password_changed_at,
        claims: AccountClaims {
            email_verified: email_verified_at.is_some(), roles: Roles::from_stored(roles)
        },
        suspension: Suspension::from_stored(suspended_at, suspended_until, suspension_reason)
    }

    users {
        id: UserId, email: String, password_hash: String, created_at: Timestamp,
        password_changed_at: Timestamp, email_verified_at: Option<Timestamp>,
        suspended_at: Option<Timestamp>, suspended_until: Option<Timestamp>,
        suspension_reason: Option<String>, roles: String, roles_version: i64, event_version: i64
    } => User {
        id, email, password_hash, created_at, password_changed_at, email_verified_at,
        suspension: Suspension::from_stored(suspended_at, suspended_until, suspension_reason),
        roles: Roles::from_stored(roles), roles_version, event_version
    }

    sessions {
        id: SessionId, user_id: UserId, token_hash: Vec<u8>,
        previous_token_hash: Option<Vec<u8>>, sealed_successor: Option<Vec<u8>>,
        rotated_at: Timestamp, expires_at: Timestamp, ends_at: Timestamp,
        access_tokens_expire_at: Option<Timestamp>, revoked_at: Option<Timestamp>
    } => Session {
        id, user_id, token_hash, previous_token_hash, sealed_successor,
        rotated_at, expires_at, ends_at, access_tokens_expire_at, revoked_at
    }

    sessions {
        rotated_at: Timestamp, generation: i64, ends_at: Timestamp,
        access_tokens_expire_at: Option<Timestamp>
    } => TokenTimes {
        rotated_at, is_rotated: generation > FIRST_GENERATION, ends_at, access_tokens_expire_at
    }

    sessions {
        id: SessionId, device_name: Option<String>,
        created_at: Timestamp, rotated_at: Timestamp, expires_at: Timestamp, ends_at: Timestamp
    } => LiveSession {
        id, device_name, created_at, rotated_at, expires_at: expires_at.min(ends_at)
    }

    sessions {
        id: SessionId, device_name: Option<String>,
        created_at: Timestamp, rotated_at: Timestamp, expires_at: Timestamp, ends_at: Timestamp,
        revoked_at: Option<Timestamp>, revoke_reason: Option<String>
    } => KeptSession {
        id, device_name, created_at, rotated_at, expires_at: expires_at.min(ends_at),
        revoked_at, revoke_reason
    }

    mail_requests {
        id: MailRequestId, purpose: String, email: String, locale: Option<String>,
        requested_at: Timestamp, expires_at: Timestamp
    } => KeptMail { id, purpose, email, locale, requested_at, expires_at }

    outbox_events {
        event_id: EventId, event_type: String, user_version: i64, occurred_at: Timestamp,
        payload: Vec<u8>
    } => KeptEvent { id: event_id, event_type, user_version, occurred_at, payload }

    outbox_events {
        id: i64, event_id: EventId, user_id: UserId, user_version: i64, event_type: String,
        occurred_at: Timestamp, traceparent: Option<String>, payload: Vec<u8>
    } => PendingEvent {
        id, event_id, user_id, user_version, event_type, occurred_at, traceparent, payload
    }

    outbox_events {
        event_id: EventId, user_id: UserId, user_version: i64, event_type: String,
        parked_at: Option<Timestamp>, parked_reason: Option<String>
    } => ParkedEvent { event_id, user_id, user_version, event_type, parked_at, parked_reason }
}
