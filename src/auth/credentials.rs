use super::{Auth, Call, Caller, Error};
use crate::{
    model::{AccountClaims, Claimant, Credentials, DeviceLogin, DeviceToken},
    password::{NewPassword, Password, Priority, Request, Verified},
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

/// A password that matched, and its account.
pub(super) struct Checked<'p> {
    pub(super) login: DeviceLogin,
    pub(super) claims: AccountClaims,
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

    /// `None` with a device token: only the account's row shows whether it is genuine.
    const fn priority(self) -> Option<Priority> {
        match self {
            Self::SignedIn(caller) => Some(Priority::KnownDevice(caller.account.user_id)),
            Self::Login { device: None, .. } => Some(Priority::Other),
            Self::Login { .. } => None,
        }
    }
}

impl Auth {
    /// Checks an account's password. A wrong password and an unknown user (there is no e-mail,
    /// or none with an account) cost the same, count the same and get the same error.
    ///
    /// 1. The account is looked up, unless the hash would be refused anyway.
    /// 2. The call is refused if its hash, with the priority that is known now, would be late.
    /// 3. The attempt is counted.
    /// 4. The stored hash is opened, and the password is hashed and compared. If the stored hash
    ///    cannot be opened, that is a fault, but only after a hash: the time of the answer does
    ///    not show it.
    /// 5. A failure is audited. A success takes the count back, and so does the end of the call
    ///    before its hash began.
    /// 6. A suspended account is refused.
    pub(super) async fn check_password<'p>(
        &self,
        claim: Claim<'_>,
        password: &'p Password,
        call: &Call,
        audit: Audit<'_>,
    ) -> Result<Checked<'p>, Error> {
        let credentials = self.look_up(claim, call).await?;
        let (claimant, priority) = self.claimant(claim, credentials.as_ref(), call);
        self.hasher.check_capacity(priority, call.deadline)?;
        let user_id = credentials.as_ref().map(|found| found.user_id);
        let audit = audit.user(user_id);
        let attempt = self.begin(&claimant.counters(), audit).await?;
        let request = Request {
            priority,
            deadline: call.deadline,
            began: attempt.began.clone(),
        };
        let hash = (credentials.as_ref()).map_or(Ok(None), |found| self.open_hash(found));
        let readable = hash.as_ref().ok().and_then(Option::as_ref);
        let verified = self.hasher.verify(password, readable, request).await?;
        hash?;
        let (Some(verified), Some(found)) = (verified, credentials) else {
            audit.failed(user_id.map_or(Reason::UnknownUser, |_| Reason::WrongPassword));
            return Err(Error::InvalidCredentials);
        };
        attempt.succeeded().await;
        self.check_suspension(&found, audit)?;
        Ok(Checked {
            login: login_of(&found),
            claims: found.claims,
            stored_hash: found.password_hash,
            verified,
        })
    }

    /// Refuses a suspended account. Only the holder of the right password learns of it.
    pub(super) fn check_suspension(
        &self,
        found: &Credentials,
        audit: Audit<'_>,
    ) -> Result<(), Error> {
        let suspension = found.suspension.as_ref();
        let Some(suspension) = suspension.filter(|it| it.is_in_force(self.clock.now())) else {
            return Ok(());
        };
        audit.failed(Reason::AccountSuspended);
        let until = suspension.until;
        Err(Error::AccountSuspended { until })
    }

    /// Finds the account, unless the hash would be refused anyway.
    async fn look_up(&self, claim: Claim<'_>, call: &Call) -> Result<Option<Credentials>, Error> {
        let _permit = match claim.priority() {
            Some(priority) => {
                self.hasher.check_capacity(priority, call.deadline)?;
                None
            }
            None if self.hasher.would_admit(Priority::Other, call.deadline) => None,
            None => Some(self.full_look_ups.acquire().await.expect("never closed")),
        };
        match claim.email() {
            Some(email) => Ok(self.db.find_credentials(email).await?),
            None => Ok(None),
        }
    }

    fn claimant<'a>(
        &self,
        claim: Claim<'a>,
        credentials: Option<&Credentials>,
        call: &Call,
    ) -> (Claimant<'a>, Priority) {
        let (email, device) = match claim {
            Claim::SignedIn(caller) => {
                let priority = Priority::KnownDevice(caller.account.user_id);
                return (Claimant::SignedIn(caller.session_id), priority);
            }
            Claim::Login { email, device } => (email, device),
        };
        if let (Some(found), Some(token)) = (credentials, device)
            && self.is_genuine(token, login_of(found), self.clock.now())
        {
            let claimant = Claimant::KnownDevice(found.user_id, token);
            return (claimant, Priority::KnownDevice(found.user_id));
        }
        let address = call.client_address;
        (Claimant::Unknown { email, address }, Priority::Other)
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
