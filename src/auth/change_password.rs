use std::time::Duration;

use super::{
    Auth, Call, Error, TokenPair,
    caller::{Caller, done},
    credentials::Claim,
};
use crate::{
    db::{NewHash, NextTokens},
    model::{
        DeviceLogin, DeviceToken, Event, PasswordChangeCause, Payload, RefreshToken,
        SessionEndReason, Timestamp,
    },
    password::{Password, Priority},
    telemetry::audit,
};

const NEW_PASSWORD: &str = "new_password";

pub struct ChangedPassword {
    pub tokens: TokenPair,
    pub device_token: DeviceToken,
}

impl Auth {
    /// Replaces the password, ends the other sessions and replaces the tokens of the caller's own
    /// in one transaction. Afterwards no other session, no login with the old password, and no
    /// earlier refresh token is left.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: &Password,
        new: Password,
        call: &Call,
    ) -> Result<ChangedPassword, Error> {
        let account = &caller.account;
        let audit = caller.audit(audit::Event::ChangePassword, call);
        // This check comes before the slow policy check, which is not throttled.
        let claim = Claim::SignedIn(caller);
        self.check_password(claim, current, call, audit).await?;
        let request = call.hash(Priority::KnownDevice(account.user_id));
        let new = self.check_policy(NEW_PASSWORD, new, &account.email, &request);
        let new = new.await?;
        if new.is(current) {
            let problem = "must differ from the current password";
            return Err(Error::invalid(NEW_PASSWORD, problem));
        }
        let hash = self.hasher.hash(&new, request).await?;

        let now = self.clock.now();
        // Later than the previous time even if the clock went back: the time identifies
        // the password.
        let changed_at = now.max(account.password_changed_at + Duration::from_micros(1));
        let cause = PasswordChangeCause::Changed;
        let payload = Payload::PasswordChanged { changed_at, cause };
        let event = Event::new(account.user_id, payload, &call.act(now));
        let new = NewHash {
            hash: &self.stored_hash(&hash, account.user_id)?,
            changed_at,
            event: &event,
        };
        let end = self.end(SessionEndReason::PasswordChanged);
        let (row, tokens) = self.draft_next_tokens(caller, now)?;
        let login = DeviceLogin {
            user_id: account.user_id,
            password_changed_at: changed_at,
        };
        let device_token = self.next_device_token(None, login, now)?;
        let changed = self.db.change_password(account, row, &new, end);
        done(changed.await?, audit)?;
        self.committed(&event);
        audit.ok();
        Ok(ChangedPassword {
            tokens,
            device_token,
        })
    }

    /// The next tokens of the caller's session, and what its row has to hold for them.
    fn draft_next_tokens(
        &self,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(NextTokens, TokenPair), Error> {
        let refresh_token = RefreshToken::generate(self.form(now))?;
        let (user_id, id, ends_at) = (
            caller.account.user_id,
            caller.session_id,
            caller.session_ends_at,
        );
        let claims = caller.account.claims();
        let subject = self.subject(user_id, id, &claims);
        let access_token = self.issuer.issue(subject, now, ends_at)?;
        let row = NextTokens {
            id,
            handle_hash: refresh_token.handle_hash(),
            token_hash: refresh_token.secret_hash(),
            now,
            expires_at: now + self.lifetimes.refresh_token,
            access_tokens_expire_at: access_token.expires_at,
        };
        let tokens = TokenPair {
            access_token,
            refresh_token,
            refresh_token_expires_at: row.expires_at.min(ends_at),
        };
        Ok((row, tokens))
    }
}
