//! Mails that acts ask for: requested with an event, claimed by the mailer, used up by an act.
//!
//! A request that was used, or is no longer wanted, is deleted with its tokens. The deletion is
//! the judge of a race: of two acts with one request, one finds it gone.

mod change;
mod reset;
mod revert;
mod steps;
mod verify;

use diesel::{
    prelude::*,
    result::{self, DatabaseErrorKind},
};
use diesel_async::RunQueryDsl;

pub(super) use self::steps::{Recipient, Steps};
pub use self::{change::Change, reset::Reset, revert::Revert};
use super::{
    Db, Error,
    outbox::insert_event,
    schema::{mail_requests, mail_tokens, users},
    transaction::transaction,
    users::is_not_suspended,
    with_conn,
};
use crate::model::{
    Act, ClaimedMail, Event, MAX_CLAIMS, MailPurpose, MailRequest, MailRequestId, Payload, Roles,
    SessionId, Timestamp, UserId,
};

/// The request of a shown token, with its account.
pub struct FoundMail {
    pub request_id: MailRequestId,
    pub purpose: MailPurpose,
    pub user_id: UserId,
    /// The normalised address.
    pub email: String,
    pub password_changed_at: Timestamp,
    pub roles: Roles,
    /// The address that the mail was sent to.
    pub sent_to: String,
    pub requested_at: Timestamp,
    /// The session that asked.
    pub session_id: Option<SessionId>,
}

/// Why an act with a mail has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailRefusal {
    /// The request is used or void.
    Void,
    /// Another account has the address, or can still take it back.
    EmailTaken,
    /// The address was changed too often: until then.
    TooManyChanges(Timestamp),
}

/// Why a transaction was rolled back.
enum Undone {
    Refused(MailRefusal),
    Failed(Error),
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The error of a new address.
fn taken(error: diesel::result::Error) -> Undone {
    match error {
        result::Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            Undone::Refused(MailRefusal::EmailTaken)
        }
        error => error.into(),
    }
}

fn settled<T>(done: Result<T, Undone>) -> Result<Result<T, MailRefusal>, Error> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(Undone::Refused(refusal)) => Ok(Err(refusal)),
        Err(Undone::Failed(error)) => Err(error),
    }
}

/// Whether the password is still the one at the time of the request, if the request ends with it.
#[diesel::dsl::auto_type(no_type_alias)]
fn is_of_this_password() -> _ {
    let now = users::password_changed_at.nullable();
    let then = mail_requests::password_changed_at;
    then.is_null().or(then.eq(now))
}

impl Db {
    /// Asks for a reset of the password at an address. Returns the event, or `None` if the address
    /// has no account, or a suspended one: then a request without an account is written, so that the work is the same.
    pub async fn request_mail_to(
        &self,
        request: &MailRequest,
        act: &Act,
    ) -> Result<Option<Event>, Error> {
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let recipient: Option<Recipient> = diesel::update(users::table)
                    .filter(users::email.eq(&request.email))
                    .filter(is_not_suspended(request.requested_at))
                    .set(users::event_version.eq(users::event_version + 1))
                    .returning(Recipient::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?;
                conn.insert_request(request, recipient.as_ref()).await?;
                let Some(recipient) = recipient else {
                    // As many statements as for an account.
                    diesel::update(mail_requests::table.find(request.id))
                        .set(mail_requests::claims.eq(MAX_CLAIMS))
                        .execute(conn)
                        .await?;
                    return Ok(None);
                };
                let payload = Payload::mail_requested(request);
                let event = Event::new(recipient.user_id, payload, act);
                insert_event(&event, recipient.event_version).execute(conn).await?;
                Ok::<_, Error>(Some(event))
            })
            .await?
        })
    }

    /// Claims a mail for a new token. `None` if the request is unknown, too old, used or void, or
    /// was claimed often enough. The token expires at the returned time.
    pub async fn claim_mail(
        &self,
        id: MailRequestId,
        token_hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<(ClaimedMail, Timestamp)>, Error> {
        type Claimed = (
            Option<UserId>,
            String,
            String,
            Option<String>,
            Timestamp,
            Timestamp,
        );
        with_conn!(self, conn => {
            transaction(conn, async |conn| {
                let claimed: Option<Claimed> = diesel::update(mail_requests::table.find(id))
                    .filter(mail_requests::user_id.is_not_null())
                    .filter(mail_requests::claims.lt(MAX_CLAIMS))
                    .filter(mail_requests::claim_until.ge(now))
                    .filter(mail_requests::password_changed_at.is_null().or(
                        mail_requests::password_changed_at.eq_any(
                            users::table
                                .filter(users::id.nullable().eq(mail_requests::user_id))
                                .select(users::password_changed_at.nullable()),
                        ),
                    ))
                    .set(mail_requests::claims.eq(mail_requests::claims + 1))
                    .returning((
                        mail_requests::user_id,
                        mail_requests::purpose,
                        mail_requests::email,
                        mail_requests::locale,
                        mail_requests::requested_at,
                        mail_requests::expires_at,
                    ))
                    .get_result(conn)
                    .await
                    .optional()?;
                let Some((Some(user_id), purpose, email, locale, requested_at, ends_at)) = claimed else {
                    return Ok(None);
                };
                // A newer version has asked for a mail that this one does not know. The claim is
                // rolled back and fails, so the mailer tries again.
                let unknown = diesel::result::Error::RollbackTransaction;
                let purpose = MailPurpose::parse(&purpose).ok_or(unknown)?;
                let expires_at = now + purpose.token_life();
                diesel::insert_into(mail_tokens::table)
                    .values((
                        mail_tokens::token_hash.eq(&token_hash[..]),
                        mail_tokens::request_id.eq(id),
                        mail_tokens::expires_at.eq(expires_at),
                    ))
                    .execute(conn)
                    .await?;
                diesel::update(mail_requests::table.find(id))
                    .set(mail_requests::expires_at.eq(ends_at.max(expires_at)))
                    .execute(conn)
                    .await?;
                let mail = ClaimedMail { purpose, user_id, email, locale, requested_at };
                Ok::<_, Error>(Some((mail, expires_at)))
            })
            .await?
        })
    }

    /// Finds the request of a token that has not expired.
    pub async fn find_mail(
        &self,
        token_hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<FoundMail>, Error> {
        type Request = (MailRequestId, String, String, Timestamp, Option<SessionId>);
        type Account = (UserId, String, Timestamp, String);
        let found: Option<(Request, Account)> = with_conn!(self, conn => {
            mail_tokens::table
                .find(&token_hash[..])
                .inner_join(mail_requests::table.inner_join(users::table))
                .filter(mail_tokens::expires_at.gt(now))
                .filter(is_of_this_password())
                .select((
                    (
                        mail_requests::id,
                        mail_requests::purpose,
                        mail_requests::email,
                        mail_requests::requested_at,
                        mail_requests::session_id,
                    ),
                    (users::id, users::email, users::password_changed_at, users::roles),
                ))
                .first(conn)
                .await
                .optional()?
        })?;
        let found = found.and_then(|(request, account)| {
            let (request_id, purpose, sent_to, requested_at, session_id) = request;
            let (user_id, email, password_changed_at, roles) = account;
            Some(FoundMail {
                request_id,
                purpose: MailPurpose::parse(&purpose)?,
                user_id,
                email,
                password_changed_at,
                roles: Roles::from_stored(roles),
                sent_to,
                requested_at,
                session_id,
            })
        });
        Ok(found)
    }
}
