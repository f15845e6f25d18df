//! `ListSessions`, `EndSession` and `EndOtherSessions`: what users do with their own sessions.

use super::{
    Auth, Call, Error,
    caller::{Caller, done},
};
use crate::{
    model::{LiveSession, SessionEndReason, SessionId},
    telemetry::audit,
};

impl Auth {
    /// The live sessions: first the caller's own, then the others, newest first. At most
    /// [`MAX_LISTED_SESSIONS`](crate::model::MAX_LISTED_SESSIONS).
    pub async fn list_sessions(&self, caller: &Caller) -> Result<Vec<LiveSession>, Error> {
        let now = self.clock.now();
        let user_id = caller.account.user_id;
        let sessions = self.db.live_sessions(user_id, caller.session_id, now);
        Ok(sessions.await?)
    }

    /// Ends one session of the caller. The session of another user is treated like an
    /// unknown one: nothing changes.
    pub async fn end_session(
        &self,
        caller: &Caller,
        id: SessionId,
        call: &Call,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let found = self.db.find_own_session(caller.account.user_id, id).await?;
        if let Some(session) = found.filter(|session| session.is_live(now)) {
            let reason = SessionEndReason::EndedByUser;
            if self.revoke(&session, reason, now, call).await? {
                caller.audit(audit::Event::EndSession).session(id).ok();
            }
        }
        Ok(())
    }

    /// Ends all sessions of the caller except the current one, and returns their number.
    pub async fn end_other_sessions(&self, caller: &Caller, call: &Call) -> Result<usize, Error> {
        let act = call.act(self.clock.now());
        let user_id = caller.account.user_id;
        let end = self.end(SessionEndReason::EndedByUser);
        let ended = self
            .db
            .end_other_sessions(user_id, caller.session_id, end, &act);
        let ended = done(ended.await?)?;
        if ended > 0 {
            caller.audit(audit::Event::EndOtherSessions).ok();
            self.outbox.notify_one();
        }
        Ok(ended)
    }
}
