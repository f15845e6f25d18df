//! `ListSessions`, `EndSession` and `EndOtherSessions`.

use super::{
    Auth, Call, Error,
    caller::{Caller, done},
};
use crate::{
    model::{LiveSession, SessionEndReason, SessionId},
    telemetry::audit,
};

impl Auth {
    /// The live sessions: first the caller's own, then the others, newest first. All of them,
    /// since a user has at most [`MAX_SESSIONS`](crate::model::MAX_SESSIONS).
    pub async fn list_sessions(&self, caller: &Caller) -> Result<Vec<LiveSession>, Error> {
        let now = self.clock.now();
        let (user_id, own) = (caller.account.user_id, caller.session_id);
        Ok(self.db.live_sessions(user_id, own, now).await?)
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
        let reason = SessionEndReason::EndedByUser;
        if let Some(session) = found
            && self.is_revocable(&session, now).await?
            && self.revoke(&session, reason, now, call).await?
        {
            let audit = caller.audit(audit::Event::EndSession, call);
            audit.session(id).ok();
        }
        Ok(())
    }

    /// Ends all sessions of the caller except the current one, and returns their number.
    pub async fn end_other_sessions(&self, caller: &Caller, call: &Call) -> Result<usize, Error> {
        let audit = caller.audit(audit::Event::EndOtherSessions, call);
        let act = call.act(self.clock.now());
        let (user_id, own) = (caller.account.user_id, caller.session_id);
        let end = self.end(SessionEndReason::EndedByUser);
        let ended = self.db.end_other_sessions(user_id, own, end, &act);
        let ended = done(ended.await?, audit)?;
        if ended > 0 {
            audit.ok();
            self.commits.notify();
        }
        Ok(ended)
    }
}
