//! New tokens for a session that goes on. Its old refresh token is unknown from then on: the row
//! has another handle, so the old one is neither rotated nor taken for reuse.

use diesel::{dsl::case_when, prelude::*};

use crate::{
    db::schema::sessions,
    model::{SessionId, Timestamp},
};

#[derive(Clone, Copy)]
pub struct NextTokens {
    pub id: SessionId,
    /// SHA-256 of the new token's handle.
    pub handle_hash: [u8; 32],
    /// SHA-256 of the new token's secret.
    pub token_hash: [u8; 32],
    pub now: Timestamp,
    /// The new sliding end.
    pub expires_at: Timestamp,
    /// When the new access token expires. Earlier ones may expire later.
    pub access_tokens_expire_at: Timestamp,
}

/// The change of the row.
#[diesel::dsl::auto_type(no_type_alias)]
pub(in crate::db) fn replaced(next: NextTokens) -> _ {
    let of_access_token: Timestamp = next.access_tokens_expire_at;
    let handle_hash: [u8; 32] = next.handle_hash;
    let token_hash: [u8; 32] = next.token_hash;
    let nothing: Option<&'static [u8]> = None;
    let now: Timestamp = next.now;
    let expires_at: Timestamp = next.expires_at;
    (
        sessions::handle_hash.eq(handle_hash),
        sessions::token_hash.eq(token_hash),
        sessions::previous_token_hash.eq(nothing),
        sessions::sealed_successor.eq(nothing),
        sessions::generation.eq(sessions::generation + 1_i64),
        sessions::rotated_at.eq(now),
        sessions::expires_at.eq(expires_at),
        sessions::access_tokens_expire_at.eq(case_when(
            sessions::access_tokens_expire_at.gt(of_access_token),
            sessions::access_tokens_expire_at,
        )
        .otherwise(of_access_token)),
    )
}
