use super::{Auth, Call, Caller, Error};
use crate::{
    model::{Claimant, Credentials, DeviceLogin, DeviceToken},
    password::{NewPassword, Password, PasswordHash, Priority, Request, Verified},
    telemetry::audit::{Audit, Reason},
};

/// The account whose password is shown, and by whom.
#[derive(Clone, Copy)]
pub(super) enum Claim<'a> {
    Login {
        /// `None` for a malformed address.
        email: Option<&'a str>,
        /// Well-formed, genuine or not.
        device: Option<&'a DeviceToken>,
    },
    SignedIn(&'a Caller),
}

/// A password that matched, its hash and its account.
pub(super) struct Checked<'p> {
    pub(super) login: DeviceLogin,
    pub(super) hash: PasswordHash,
    /// The hash as the database keeps it.
    pub(super) stored_hash: String,
    pub(super) verified: Verified<'p>,
}

impl<'a> Claim<'a> {
    fn email(self) -> Option<&'a str> {
        match self {
            Self::Login { email, .. } => email,
            Self::SignedIn(caller) => Some(&caller.account.email),
        }
    }

    /// The best that it can be, before the account is known.
    const fn highest_priority(self) -> Priority {
        match self {
            Self::Login { device: None, .. } => Priority::Other,
            Self::Login {
                device: Some(_), ..
            }
            | Self::SignedIn(_) => Priority::KnownDevice,
        }
    }
}

impl Auth {
    /// Checks an account's password. A wrong password and an unknown user (there is no e-mail,
    /// or none with an account) cost the same, count the same and get the same error.
    ///
    /// The attempt is counted before the hash. A success takes the count back, and so does the
    /// end of the call before its hash began. A failure is audited here.
    pub(super) async fn check_password<'p>(
        &self,
        claim: Claim<'_>,
        password: &'p Password,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<Checked<'p>, Error> {
        // Refuse before the first statement if the hash would be refused anyway.
        let highest = claim.highest_priority();
        self.hasher.check_capacity(highest, call.deadline)?;
        let credentials = match claim.email() {
            Some(email) => self.db.find_credentials(email).await?,
            None => None,
        };
        let claimant = self.claimant(claim, credentials.as_ref(), call);
        let priority = priority(claimant);
        if priority != highest {
            self.hasher.check_capacity(priority, call.deadline)?;
        }
        let user_id = credentials.as_ref().map(|found| found.user_id);
        let hash = (credentials.as_ref())
            .map(|found| self.open_hash(found))
            .transpose()?
            .flatten();
        let attempt = self.begin(&claimant.counters(), audit).await?;
        let request = Request {
            priority,
            deadline: call.deadline,
            began: attempt.began.clone(),
        };
        let verified = self.hasher.verify(password, hash.as_ref(), request).await?;
        let (Some(verified), Some(found), Some(hash)) = (verified, credentials, hash) else {
            let reason = user_id.map_or(Reason::UnknownUser, |_| Reason::WrongPassword);
            audit.user(user_id).failed(reason);
            return Err(Error::InvalidCredentials);
        };
        attempt.succeeded().await;
        Ok(Checked {
            login: login_of(&found),
            hash,
            stored_hash: found.password_hash,
            verified,
        })
    }

    fn claimant<'a>(
        &self,
        claim: Claim<'a>,
        credentials: Option<&Credentials>,
        call: &Call,
    ) -> Claimant<'a> {
        let (email, device) = match claim {
            Claim::SignedIn(caller) => return Claimant::SignedIn(caller.session_id),
            Claim::Login { email, device } => (email, device),
        };
        if let (Some(found), Some(token)) = (credentials, device)
            && self.is_genuine(token, login_of(found), self.clock.now())
        {
            return Claimant::KnownDevice(found.user_id, token);
        }
        let address = call.client_address;
        Claimant::Unknown { email, address }
    }

    pub(super) async fn check_policy(
        &self,
        field: &'static str,
        password: Password,
        email: &str,
        request: &Request,
    ) -> Result<NewPassword, Error> {
        let checked = self.policy.check(password, email, request).await?;
        checked.map_err(|weakness| Error::invalid(field, weakness.to_string()))
    }
}

const fn login_of(found: &Credentials) -> DeviceLogin {
    DeviceLogin {
        user_id: found.user_id,
        password_changed_at: found.password_changed_at,
    }
}

const fn priority(claimant: Claimant<'_>) -> Priority {
    match claimant {
        Claimant::KnownDevice(..) | Claimant::SignedIn(_) => Priority::KnownDevice,
        Claimant::Unknown { .. } => Priority::Other,
    }
}
