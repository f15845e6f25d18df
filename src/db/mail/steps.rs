//! The steps that the transactions share.

use diesel::{dsl::sql, prelude::*, sql_types::Text};
use diesel_async::RunQueryDsl;

use crate::{
    db::{
        schema::{mail_requests, users},
        steps::steps,
    },
    model::{
        CHANGES_COUNT_FOR, Locale, MailPurpose, MailRequest, MailRequestId, SessionId, Suspension,
        Timestamp, UserId,
    },
};

/// The account that a mail goes to.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
pub(in crate::db) struct Recipient {
    #[diesel(column_name = id)]
    pub(in crate::db) user_id: UserId,
    pub(in crate::db) event_version: i64,
    pub(in crate::db) password_changed_at: Timestamp,
    pub(in crate::db) locale: Option<String>,
    pub(in crate::db) suspended_at: Option<Timestamp>,
    pub(in crate::db) suspended_until: Option<Timestamp>,
}

impl Recipient {
    /// A suspended user cannot reset the password.
    pub(in crate::db) fn is_suspended(&self, now: Timestamp) -> bool {
        let suspension = Suspension::from_stored(self.suspended_at, self.suspended_until, None);
        suspension.is_some_and(|it| it.is_in_force(now))
    }
}

#[derive(Insertable)]
#[diesel(table_name = mail_requests)]
struct NewRequest<'a> {
    id: MailRequestId,
    user_id: Option<UserId>,
    purpose: &'static str,
    email: &'a str,
    locale: Option<&'a str>,
    requested_at: Timestamp,
    claim_until: Timestamp,
    password_changed_at: Option<Timestamp>,
    claims: i64,
    expires_at: Timestamp,
    session_id: Option<SessionId>,
}

steps! {
    trait Steps;

    /// Without an account the request holds no address, and can never be claimed.
    async fn insert_request(
        &mut self, request: &MailRequest, recipient: Option<&Recipient>
    ) -> QueryResult<()> {
        let claim_until = request.claim_until();
        let own_locale = recipient.and_then(|it| it.locale.as_deref());
        let row = NewRequest {
            id: request.id,
            user_id: recipient.map(|it| it.user_id),
            purpose: request.purpose.as_str(),
            email: recipient.map_or("", |_| &request.email),
            locale: request.locale.as_ref().map(Locale::as_str).or(own_locale),
            requested_at: request.requested_at,
            claim_until,
            password_changed_at: recipient
                .filter(|_| request.purpose.ends_with_password())
                .map(|it| it.password_changed_at),
            claims: 0,
            expires_at: claim_until,
            session_id: request.session_id,
        };
        diesel::insert_into(mail_requests::table).values(row).execute(self).await?;
        Ok(())
    }

    /// Whether a mail for this purpose can still be claimed, or has a token that lives.
    async fn has_open_request(
        &mut self, user_id: UserId, purpose: MailPurpose, now: Timestamp
    ) -> QueryResult<bool> {
        let open = mail_requests::table
            .filter(mail_requests::user_id.eq(user_id))
            .filter(mail_requests::purpose.eq(purpose.as_str()))
            .filter(mail_requests::expires_at.ge(now))
            .count();
        let open: i64 = open.get_result(self).await?;
        Ok(open > 0)
    }

    /// When the address was changed, the last change first, as far as changes count.
    async fn changes_of_address(
        &mut self, user_id: UserId, now: Timestamp
    ) -> QueryResult<Vec<Timestamp>> {
        mail_requests::table
            .filter(mail_requests::user_id.eq(user_id))
            .filter(mail_requests::purpose.eq(MailPurpose::RevertEmail.as_str()))
            .filter(mail_requests::requested_at.gt(now - CHANGES_COUNT_FOR))
            .order(mail_requests::requested_at.desc())
            .select(mail_requests::requested_at)
            .load(self)
            .await
    }

    /// Whether another account had the address and can still take it back.
    async fn is_reserved(
        &mut self, email: &str, user_id: UserId, now: Timestamp
    ) -> QueryResult<bool> {
        // A literal: no plan for a parameter can use the index of these rows alone.
        let revert = sql::<Text>("'revert_email'");
        let reserved = mail_requests::table
            .filter(mail_requests::email.eq(email))
            .filter(mail_requests::purpose.eq(revert))
            .filter(mail_requests::user_id.ne(user_id))
            .filter(mail_requests::expires_at.ge(now))
            .count();
        let reserved: i64 = reserved.get_result(self).await?;
        Ok(reserved > 0)
    }

    /// Those of these addresses that an account had and can still take back.
    async fn reserved_among(
        &mut self, emails: &[&str], now: Timestamp
    ) -> QueryResult<Vec<String>> {
        mail_requests::table
            .filter(mail_requests::email.eq_any(emails))
            .filter(mail_requests::purpose.eq(sql::<Text>("'revert_email'")))
            .filter(mail_requests::expires_at.ge(now))
            .select(mail_requests::email)
            .load(self)
            .await
    }

    /// Deletes the user's requests, which a new password or address makes void, and returns
    /// whether this one was among them. The owner of an old address can still undo its change.
    async fn void_mails(
        &mut self, user_id: UserId, one: Option<MailRequestId>
    ) -> QueryResult<bool> {
        let voided: Vec<MailRequestId> = diesel::delete(mail_requests::table)
            .filter(mail_requests::user_id.eq(user_id))
            .filter(mail_requests::purpose.eq_any(MailPurpose::VOIDABLE))
            .returning(mail_requests::id)
            .get_results(self)
            .await?;
        Ok(one.is_some_and(|one| voided.contains(&one)))
    }
}
