use super::{AccessToken, Auth, Call, Error, SessionEvents};
use crate::{
    db::NewSession,
    model::{
        AccountClaims, ClientAddress, DeviceLogin, DeviceName, DeviceToken, Event, Payload,
        RefreshToken, Session, SessionEnd, SessionEndReason, SessionId, Timestamp,
    },
};

/// The session that an act starts.
pub(super) struct Start {
    pub login: DeviceLogin,
    pub device: Device,
    pub claims: AccountClaims,
}

/// The device that logs in.
#[derive(Default)]
pub struct Device {
    pub name: Option<DeviceName>,
    /// Well-formed, genuine or not.
    pub token: Option<DeviceToken>,
}

pub struct StartedSession {
    pub id: SessionId,
    pub tokens: TokenPair,
    pub device_token: DeviceToken,
}

pub struct TokenPair {
    pub access_token: AccessToken,
    pub refresh_token: RefreshToken,
    /// The earlier of the session's sliding and absolute end.
    pub refresh_token_expires_at: Timestamp,
}

impl Auth {
    /// Makes the row of a session and the reply. The reply is made before the row is written, so
    /// that nothing can fail after the commit. The row holds only hashes of the refresh token.
    pub(super) fn draft_session(
        &self,
        start: Start,
        now: Timestamp,
        call: &Call,
    ) -> Result<(NewSession, StartedSession), Error> {
        let Start {
            login,
            device,
            claims,
        } = start;
        let user_id = login.user_id;
        let refresh_token = RefreshToken::generate(self.form(now))?;
        let id = SessionId::new(now);
        let ends_at = now + self.lifetimes.session;
        let subject = self.subject(user_id, id, &claims);
        let access_token = self.issuer.issue(subject, now, ends_at)?;
        let is_known = (device.token.as_ref()).is_some_and(|it| self.is_genuine(it, login, now));
        let mut row = NewSession {
            id,
            user_id,
            handle_hash: refresh_token.handle_hash(),
            token_hash: refresh_token.secret_hash(),
            device_name: device.name,
            created_at: now,
            expires_at: now + self.lifetimes.refresh_token,
            ends_at,
            access_tokens_expire_at: access_token.expires_at,
            event: None,
        };
        row.event = self.session_started(&row, is_known, call);
        let tokens = TokenPair {
            access_token,
            refresh_token,
            refresh_token_expires_at: row.expires_at.min(row.ends_at),
        };
        let device_token = self.next_device_token(device.token, login, now)?;
        let session = StartedSession {
            id,
            tokens,
            device_token,
        };
        Ok((row, session))
    }

    fn session_started(&self, session: &NewSession, is_known: bool, call: &Call) -> Option<Event> {
        let network = match self.session_events {
            SessionEvents::Off => return None,
            SessionEvents::WithoutNetwork => None,
            SessionEvents::WithNetwork => call.client_address,
        };
        let payload = Payload::SessionStarted {
            session_id: session.id,
            device_name: session.device_name.clone(),
            is_known,
            network: network.map_or_else(String::new, ClientAddress::site),
        };
        let act = call.act(session.created_at);
        Some(Event::new(session.user_id, payload, &act))
    }

    /// The same device's token with a new day, or a token for a new device.
    pub(super) fn next_device_token(
        &self,
        last: Option<DeviceToken>,
        login: DeviceLogin,
        now: Timestamp,
    ) -> Result<DeviceToken, Error> {
        let key = self.data_keys.current();
        let known = last.filter(|token| self.is_genuine(token, login, now));
        Ok(match known {
            Some(token) => token.renew(key, login, now),
            None => DeviceToken::generate(key, login, now)?,
        })
    }

    pub(super) fn is_genuine(
        &self,
        token: &DeviceToken,
        login: DeviceLogin,
        now: Timestamp,
    ) -> bool {
        token.is_genuine(&self.data_keys, login, now, self.lifetimes.device_token)
    }

    /// Revokes a session and writes its event. `false` if it had already ended.
    pub(super) async fn revoke(
        &self,
        session: &Session,
        reason: SessionEndReason,
        now: Timestamp,
        call: &Call,
    ) -> Result<bool, Error> {
        let (end, act) = (self.end(reason), call.act(now));
        let revoked = self.db.end_session(session.user_id, session.id, end, &act);
        let event = revoked.await?;
        if let Some(event) = &event {
            self.committed(event);
        }
        Ok(event.is_some())
    }

    /// Whether there is anything to revoke: the session has not ended, by this replica's clock
    /// or by the database's. If this clock is ahead, the session lives on at other replicas.
    pub(super) async fn is_revocable(
        &self,
        session: &Session,
        now: Timestamp,
    ) -> Result<bool, Error> {
        if session.revoked_at.is_some() || session.is_live(now) {
            return Ok(session.revoked_at.is_none());
        }
        Ok(session.is_live(self.db.now().await?))
    }

    pub(super) const fn end(&self, reason: SessionEndReason) -> SessionEnd {
        SessionEnd {
            reason,
            access_token_ttl: self.issuer.ttl,
        }
    }
}
