use super::{Admin, known};
use crate::{
    auth::{Call, Error},
    model::{LiveSession, SessionEndReason, SessionId, UserId},
    telemetry::audit::{self, Audit},
};

impl Admin {
    /// The live sessions of a user, newest first.
    pub async fn list_user_sessions(
        &self,
        id: UserId,
        call: &Call,
    ) -> Result<Vec<LiveSession>, Error> {
        let audit = call.audit(audit::Event::ListUserSessions).user(id);
        self.require_user(id, audit).await?;
        let now = self.clock.now();
        let none_first = SessionId::from_bytes([0; 16]);
        let sessions = self.db.live_sessions(id, none_first, now).await?;
        audit.ok();
        Ok(sessions)
    }

    /// Ends one session of a user, or all of them, and returns how many have ended.
    pub async fn end_user_sessions(
        &self,
        id: UserId,
        session: Option<SessionId>,
        call: &Call,
    ) -> Result<usize, Error> {
        let audit = call.audit(audit::Event::EndUserSessions).user(id);
        let audit = audit.session(session);
        let (end, act) = (
            self.end(SessionEndReason::EndedByAdmin),
            call.admin_act(self.clock.now()),
        );
        let ended = match session {
            None => known(self.db.end_all_sessions(id, end, &act).await?, audit)?,
            Some(session) => {
                self.require_user(id, audit).await?;
                let event = self.db.end_session(id, session, end, &act).await?;
                usize::from(event.is_some())
            }
        };
        self.done(audit);
        Ok(ended)
    }

    async fn require_user(&self, id: UserId, audit: Audit<'_>) -> Result<(), Error> {
        let found = self.db.find_user(id, self.clock.now()).await?;
        known(found, audit).map(drop)
    }
}
