//! The tables as Diesel sees them, the same for both databases. `migrations/` makes them.

macro_rules! tables {
    ($($name:ident ($key:ident) { $($columns:tt)* })*) => {
        $(diesel::table! {
            use diesel::sql_types::*;
            use crate::db::sql_types::{Moment, Uuid};

            $name ($key) { $($columns)* }
        })*

        pub(super) const TABLES: &[&str] = &[$(stringify!($name)),*];
    };
}

tables! {
    users (id) {
        id -> Uuid,
        email -> Text,
        password_hash -> Text,
        event_version -> BigInt,
        created_at -> Moment,
        password_changed_at -> Moment,
        email_verified_at -> Nullable<Moment>,
        locale -> Nullable<Text>,
        suspended_at -> Nullable<Moment>,
        suspended_until -> Nullable<Moment>,
        suspension_reason -> Nullable<Text>,
        roles -> Text,
        roles_version -> BigInt,
    }

    sessions (id) {
        id -> Uuid,
        user_id -> Uuid,
        handle_hash -> Binary,
        token_hash -> Binary,
        previous_token_hash -> Nullable<Binary>,
        sealed_successor -> Nullable<Binary>,
        generation -> BigInt,
        device_name -> Nullable<Text>,
        created_at -> Moment,
        rotated_at -> Moment,
        expires_at -> Moment,
        ends_at -> Moment,
        access_tokens_expire_at -> Nullable<Moment>,
        revoked_at -> Nullable<Moment>,
        revoke_reason -> Nullable<Text>,
    }

    outbox_events (id) {
        id -> BigInt,
        event_id -> Uuid,
        user_id -> Uuid,
        user_version -> BigInt,
        event_type -> Text,
        occurred_at -> Moment,
        traceparent -> Nullable<Text>,
        payload -> Binary,
        parked_at -> Nullable<Moment>,
        parked_reason -> Nullable<Text>,
        retry_at -> Nullable<Moment>,
    }

    mail_requests (id) {
        id -> Uuid,
        user_id -> Nullable<Uuid>,
        purpose -> Text,
        email -> Text,
        locale -> Nullable<Text>,
        requested_at -> Moment,
        claim_until -> Moment,
        password_changed_at -> Nullable<Moment>,
        claims -> BigInt,
        expires_at -> Moment,
        session_id -> Nullable<Uuid>,
    }

    deleted_users (id) {
        id -> Uuid,
    }

    mail_tokens (token_hash) {
        token_hash -> Binary,
        request_id -> Uuid,
        expires_at -> Moment,
    }

    outbox_lease (id) {
        id -> Integer,
        owner -> Uuid,
        expires_at -> Moment,
    }

    transitions (name) {
        name -> Text,
        ends_at -> Nullable<Moment>,
    }

    revocations (id) {
        id -> Uuid,
        session_id -> Nullable<Uuid>,
        user_id -> Nullable<Uuid>,
        issued_before -> Nullable<Moment>,
        until -> Moment,
        recorded_at -> Moment,
    }

    login_throttle (key_hash) {
        key_hash -> Binary,
        free_from -> BigInt,
        day_failures -> BigInt,
        day_ends_at -> BigInt,
        known_until -> BigInt,
        revision -> BigInt,
        failed_at -> BigInt,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(mail_requests -> users (user_id));
diesel::joinable!(mail_tokens -> mail_requests (request_id));
diesel::allow_tables_to_appear_in_same_query!(users, sessions);
diesel::allow_tables_to_appear_in_same_query!(users, mail_requests, mail_tokens);
