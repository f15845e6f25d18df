use super::{Auth, Call, Error};
use crate::{
    model::{RefreshToken, SessionEndReason},
    telemetry::audit,
};

impl Auth {
    /// Ends the session that the token's handle names, also if the token was rotated since.
    /// A session that has already ended is left as it is.
    pub async fn logout(&self, token: RefreshToken, call: &Call) -> Result<(), Error> {
        let now = self.clock.now();
        let session = self.db.find_session(&token.handle_hash()).await?;
        let reason = SessionEndReason::Logout;
        if let Some(session) = session
            && self.is_revocable(&session, now).await?
            && self.revoke(&session, reason, now, call).await?
        {
            call.audit(audit::Event::Logout)
                .user(session.user_id)
                .session(session.id)
                .ok();
        }
        Ok(())
    }
}
