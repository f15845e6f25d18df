//! What a signed-in user does with the own account.
//!
//! The caller is whoever the access token names, as long as its session lives: asked in
//! the database at every call, so a session that ended is refused at once. Acts that end
//! sessions look again when they hold the user's row, since hashing takes its time and
//! somebody may have ended the caller's session, or changed the password, meanwhile.

use std::time::Duration;

use super::{Auth, Call, Error};
use crate::{
    db::{NewHash, Outcome},
    model::{Account, Event, LiveSession, Payload, SessionEndReason, SessionId},
    password::{NewPassword, Password},
    telemetry::audit::{self, Audit},
};

/// Who is calling.
pub struct Caller {
    /// Whose access token it is.
    pub account: Account,
    /// The token's session.
    pub session_id: SessionId,
}

impl Auth {
    /// Finds out who calls, by the access token.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, Error> {
        let now = self.clock.now();
        let bearer = self.issuer.verify(token, now).ok_or(Error::InvalidToken)?;
        let account = self
            .db
            .find_account(bearer.user_id, bearer.session_id, now)
            .await?
            .ok_or(Error::InvalidToken)?;
        Ok(Caller {
            account,
            session_id: bearer.session_id,
        })
    }

    /// Replaces the password and ends the other sessions. Nothing is in between: when it
    /// answers, no other session and no login with the old password is left.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: &Password,
        new: Password,
        call: &Call,
    ) -> Result<(), Error> {
        let account = &caller.account;
        // First, for it is what counts: judging a password takes its time, too.
        let audit = audit(audit::Event::ChangePassword, caller);
        self.prove(Some(&account.email), current, call, audit)
            .await?;
        let field = "new_password";
        let new = self.new_password(field, new, &account.email).await?;
        if new.is(current) {
            return Err(Error::InvalidArgument {
                field,
                problem: "must differ from the current password".to_owned(),
            });
        }
        let hash = self.hasher.hash(&new, call.deadline).await?;

        let now = self.clock.now();
        // Later than the one before whatever the clock says: it tells passwords apart.
        let changed_at = now.max(account.password_changed_at + Duration::from_micros(1));
        let new = NewHash {
            hash: hash.as_str(),
            changed_at,
            event: &Event::new(
                account.user_id,
                Payload::PasswordChanged { changed_at },
                &call.act(now),
            ),
        };
        let reason = SessionEndReason::PasswordChanged;
        let outcome = self
            .db
            .change_password(account, caller.session_id, &new, self.end(reason))
            .await?;
        done(outcome)?;
        self.committed(new.event);
        audit.ok();
        Ok(())
    }

    /// The live sessions: the caller's own, then the others, newest first; not more than
    /// fit into a reply.
    pub async fn list_sessions(&self, caller: &Caller) -> Result<Vec<LiveSession>, Error> {
        let now = self.clock.now();
        let user_id = caller.account.user_id;
        let sessions = self.db.live_sessions(user_id, caller.session_id, now);
        Ok(sessions.await?)
    }

    /// Ends one session of the caller's. Somebody else's is like one that never was.
    pub async fn end_own_session(
        &self,
        caller: &Caller,
        id: SessionId,
        call: &Call,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let found = self.db.find_own_session(caller.account.user_id, id).await?;
        if let Some(session) = found.filter(|session| session.is_live(now)) {
            let reason = SessionEndReason::EndedByUser;
            if self.end_session(&session, reason, now, call).await? {
                audit(audit::Event::EndSession, caller).session(id).ok();
            }
        }
        Ok(())
    }

    /// Ends every session of the caller's but this one. Says how many.
    pub async fn end_other_sessions(&self, caller: &Caller, call: &Call) -> Result<usize, Error> {
        let now = self.clock.now();
        let user_id = caller.account.user_id;
        let reason = SessionEndReason::EndedByUser;
        let outcome = self
            .db
            .end_other_sessions(user_id, caller.session_id, self.end(reason), &call.act(now))
            .await?;
        let ended = done(outcome)?;
        if ended > 0 {
            audit(audit::Event::EndOtherSessions, caller).ok();
            self.outbox.notify_one();
        }
        Ok(ended)
    }

    /// Deletes the account with its sessions. Its events stay until they are published, and
    /// the last one says that it is gone.
    pub async fn delete_account(
        &self,
        caller: &Caller,
        current: &Password,
        call: &Call,
    ) -> Result<(), Error> {
        let email = &caller.account.email;
        let audit = audit(audit::Event::DeleteAccount, caller);
        self.prove(Some(email), current, call, audit).await?;
        let now = self.clock.now();
        let event = Event::new(caller.account.user_id, Payload::UserDeleted, &call.act(now));
        let outcome = self
            .db
            .delete_account(&caller.account, caller.session_id, &event)
            .await?;
        done(outcome)?;
        self.committed(&event);
        audit.ok();
        Ok(())
    }

    /// A password that may be set, or which rule the one in `field` breaks.
    pub(super) async fn new_password(
        &self,
        field: &'static str,
        password: Password,
        email: &str,
    ) -> Result<NewPassword, Error> {
        let checked = self.password_policy.check(password, email).await?;
        checked.map_err(|weakness| Error::InvalidArgument {
            field,
            problem: weakness.to_string(),
        })
    }
}

fn audit(event: audit::Event, caller: &Caller) -> Audit<'static> {
    let user_id = caller.account.user_id;
    Audit::of(event).user(user_id).session(caller.session_id)
}

/// What an act came to, in the words of the contract.
fn done<T>(outcome: Outcome<T>) -> Result<T, Error> {
    match outcome {
        Outcome::Done(result) => Ok(result),
        Outcome::PasswordChanged => Err(Error::InvalidCredentials),
        Outcome::SessionEnded => Err(Error::InvalidToken),
    }
}
