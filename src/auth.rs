//! The use cases, one function each. Start reading here.
//!
//! Whatever arrives has been parsed ([`Email`], [`RefreshToken`], ..), so a function here
//! only decides. Each asks the clock once, writes what belongs together in one unit of
//! work, and answers with an [`Error`] in the words of the contract.
//!
//! A session is one row for its whole life. A refresh token names the row (handle) and
//! proves that its holder is up to date (secret); exchanging it replaces the secret. See
//! [`Auth::refresh`] for what happens when an old secret comes back.

pub mod access_token;
mod account;
mod error;
mod hs256;
mod metrics;
mod session;
mod throttle;

use std::sync::Arc;

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

pub use self::{
    access_token::{AccessToken, Issuer, SigningKey},
    account::Caller,
    error::{Error, Fault},
    metrics::Metrics,
};
use self::{session::SessionDraft, throttle::Proof};
use crate::{
    config::Lifetimes,
    db::{Db, Exchange, NewUser, Registration},
    model::{
        Act, ClientAddress, Clock, DeviceName, Email, Event, Payload, Presented, RefreshToken,
        Session, SessionEnd, SessionEndReason, SessionId, ThrottleLimits, Timestamp, Traceparent,
        UserId,
    },
    password::{Hasher, Password, PasswordHash, Policy, Verified},
    telemetry::{
        Causes,
        audit::{self, Audit},
    },
};

/// How many sessions a user has at most. A call ends all of them in one transaction, which
/// must not take longer than a call may.
const MOST_SESSIONS: i64 = 1000;

/// The identity core. All state is in the database: any number of replicas may run.
pub struct Auth {
    /// Where accounts and sessions are.
    pub db: Db,
    /// Where passwords are hashed.
    pub hasher: Hasher,
    /// What a new password must satisfy.
    pub password_policy: Policy,
    /// How much guessing is let through.
    pub throttle: ThrottleLimits,
    /// Who signs access tokens.
    pub issuer: Issuer,
    /// How long tokens and sessions live.
    pub lifetimes: Lifetimes,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Wakes the outbox poller after a commit.
    pub outbox: Arc<Notify>,
    /// What is counted.
    pub metrics: Metrics,
}

/// What a use case knows of the call it serves.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the answer is of no use any more.
    pub deadline: Instant,
    /// The caller's W3C trace context.
    pub traceparent: Option<Traceparent>,
    /// Where it comes from, if somebody said so who is trusted.
    pub client_address: Option<ClientAddress>,
}

impl Call {
    fn act(&self, now: Timestamp) -> Act {
        Act {
            now,
            traceparent: self.traceparent.clone(),
        }
    }
}

/// A request to create an account.
pub struct Register {
    /// The address.
    pub email: Email,
    /// The password, not checked yet.
    pub password: Password,
    /// Whether to start a session too.
    pub start_session: bool,
    /// What to call that session.
    pub device_name: Option<DeviceName>,
}

/// A request to start a session.
pub struct Login {
    /// `None` for what is no address: nobody can have it.
    pub email: Option<Email>,
    /// What was typed.
    pub password: Password,
    /// What to call the session.
    pub device_name: Option<DeviceName>,
}

/// A created account.
pub struct Registered {
    /// Its id.
    pub user_id: UserId,
    /// When.
    pub created_at: Timestamp,
    /// Its first session, if one was wanted.
    pub session: Option<StartedSession>,
}

/// A login that succeeded.
pub struct LoggedIn {
    /// Who.
    pub user_id: UserId,
    /// The session.
    pub session: StartedSession,
}

/// A new session.
pub struct StartedSession {
    /// Its id.
    pub id: SessionId,
    /// Its first tokens.
    pub tokens: TokenPair,
}

/// An access token and the refresh token that replaces it.
pub struct TokenPair {
    /// For the gateway.
    pub access_token: AccessToken,
    /// For [`Auth::refresh`].
    pub refresh_token: RefreshToken,
    /// When the session ends unless it is refreshed before.
    pub refresh_token_expires_at: Timestamp,
}

/// What a presented refresh token turned out to be.
enum Rotation {
    /// The current one: exchanged for its successor.
    Rotated(Session, RefreshToken),
    /// The one before, a moment ago: a lost reply or a race. The successor stays.
    Retried(Session, RefreshToken),
    /// An older one: somebody else has used it.
    Reused(Session),
    /// Of no live session.
    Unknown,
}

impl Rotation {
    /// As the metrics call it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Rotated(..) => "rotated",
            Self::Retried(..) => "retried",
            Self::Reused(_) => "reused",
            Self::Unknown => "unknown",
        }
    }
}

impl Auth {
    /// Creates an account, and its first session on request: the hash is the expensive
    /// part, and a login right after would pay for it again.
    pub async fn register(&self, request: Register, call: &Call) -> Result<Registered, Error> {
        let email = request.email;
        let now = self.clock.now();
        let attempt = throttle::registration(&self.throttle, &email, call.client_address, now);
        // Only saves the hash; the insert below is the judge.
        let (counted, credentials) = self
            .admit(&attempt, Audit::of(audit::Event::Register))
            .await?;
        let password = self.new_password("password", request.password, email.as_str());
        let password = self
            .unless_overloaded(password.await, &attempt, &counted)
            .await?;
        if credentials.is_some() {
            return Err(email_taken());
        }
        let hash = self.hasher.hash(&password, call.deadline).await;
        let hash = self.unless_overloaded(hash, &attempt, &counted).await?;

        let now = self.clock.now();
        let user_id = UserId::new(now);
        let session = if request.start_session {
            Some(self.draft_session(user_id, request.device_name, now)?)
        } else {
            None
        };
        let user = NewUser {
            id: user_id,
            email: email.as_str(),
            password_hash: hash.as_str(),
            created_at: now,
        };
        let row = session.as_ref().map(SessionDraft::row);
        let payload = Payload::UserCreated {
            email: email.clone(),
        };
        let event = Event::new(user_id, payload, &call.act(now));
        match self.db.register(&user, row.as_ref(), &event).await? {
            Registration::Created => self.committed(&event),
            Registration::EmailTaken => return Err(email_taken()),
        }
        let session_id = session.as_ref().map(SessionDraft::id);
        Audit::of(audit::Event::Register)
            .user(user_id)
            .session(session_id)
            .ok();
        if session.is_some() {
            self.know_owner(&email, call).await;
        }
        Ok(Registered {
            user_id,
            created_at: now,
            session: session.map(SessionDraft::started),
        })
    }

    /// Starts a session.
    pub async fn login(&self, request: Login, call: &Call) -> Result<LoggedIn, Error> {
        let Proof {
            user_id,
            hash,
            changed_at,
            verified,
        } = self
            .prove(
                request.email.as_ref().map(Email::as_str),
                &request.password,
                call,
                Audit::of(audit::Event::Login),
            )
            .await?;
        if self.hasher.needs_upgrade(&hash) {
            self.upgrade_hash(user_id, &hash, verified, call).await;
        }

        let now = self.clock.now();
        let session = self.draft_session(user_id, request.device_name, now)?;
        let Some(count) = self.db.start_session(&session.row(), changed_at).await? else {
            // Changed, or the account deleted, while we hashed.
            Audit::of(audit::Event::Login)
                .user(user_id)
                .failed(audit::Reason::PasswordChanged);
            return Err(Error::InvalidCredentials);
        };
        // The database may count the new one or not.
        if count >= MOST_SESSIONS {
            self.end_oldest_sessions(user_id, now, call).await;
        }
        Audit::of(audit::Event::Login)
            .user(user_id)
            .session(session.id())
            .ok();
        Ok(LoggedIn {
            user_id,
            session: session.started(),
        })
    }

    /// Exchanges a refresh token for the next pair.
    ///
    /// The current token is exchanged by one compare-and-set. A client that lost the reply,
    /// or whose two tabs raced, shows the token before: within the retry window it gets the
    /// *same* successor, so nobody is logged out and the session never forks. Any other
    /// secret of the session means that a rotated token came back, as it does after a
    /// theft: the session ends (RFC 9700, 4.14.2).
    pub async fn refresh(&self, token: RefreshToken, call: &Call) -> Result<TokenPair, Error> {
        let now = self.clock.now();
        let rotation = self.rotate(&token, now).await?;
        self.metrics.refreshed(rotation.name());
        match rotation {
            Rotation::Rotated(session, successor) | Rotation::Retried(session, successor) => {
                Ok(TokenPair {
                    access_token: self.issuer.issue(session.user_id, session.id, now)?,
                    refresh_token: successor,
                    refresh_token_expires_at: session.expires_at.min(session.ends_at),
                })
            }
            Rotation::Reused(session) => {
                let reason = SessionEndReason::Reuse;
                if self.end_session(&session, reason, now, call).await? {
                    audit(audit::Event::Refresh, &session).failed(audit::Reason::Reused);
                }
                Err(Error::InvalidToken)
            }
            Rotation::Unknown => Err(Error::InvalidToken),
        }
    }

    /// Ends the session that the token's handle names, whether the token is current or not.
    /// A session that has ended already stays as it is.
    pub async fn logout(&self, token: RefreshToken, call: &Call) -> Result<(), Error> {
        let now = self.clock.now();
        let session = self.db.find_session(&token.handle_hash()).await?;
        if let Some(session) = session.filter(|session| session.is_live(now)) {
            let reason = SessionEndReason::Logout;
            if self.end_session(&session, reason, now, call).await? {
                audit(audit::Event::Logout, &session).ok();
            }
        }
        Ok(())
    }

    async fn rotate(&self, token: &RefreshToken, now: Timestamp) -> Result<Rotation, Error> {
        let successor = token.generate_successor()?;
        let exchange = Exchange {
            handle_hash: token.handle_hash(),
            token_hash: token.secret_hash(),
            new_token_hash: successor.secret_hash(),
            sealed_successor: token.seal(&successor),
            now,
            expires_at: now + self.lifetimes.refresh_token,
        };
        if let Some(session) = self.db.exchange_token(&exchange).await? {
            return Ok(Rotation::Rotated(session, successor));
        }
        let Some(session) = self.db.find_session(&exchange.handle_hash).await? else {
            return Ok(Rotation::Unknown);
        };
        Ok(
            match session.judge(token, &successor, now, self.lifetimes.retry_window) {
                Presented::Current => Rotation::Rotated(session, successor),
                Presented::Previous { successor } => {
                    let successor = successor.ok_or(Fault::Corrupt("sealed successor"))?;
                    Rotation::Retried(session, successor)
                }
                Presented::Reused => Rotation::Reused(session),
                Presented::Ended => Rotation::Unknown,
            },
        )
    }

    fn draft_session(
        &self,
        user_id: UserId,
        device_name: Option<DeviceName>,
        now: Timestamp,
    ) -> Result<SessionDraft, Error> {
        SessionDraft::new(user_id, device_name, now, self.lifetimes, &self.issuer)
    }

    async fn end_session(
        &self,
        session: &Session,
        reason: SessionEndReason,
        now: Timestamp,
        call: &Call,
    ) -> Result<bool, Error> {
        let event = self
            .db
            .end_session(
                session.user_id,
                session.id,
                self.end(reason),
                &call.act(now),
            )
            .await?;
        if let Some(event) = &event {
            self.committed(event);
        }
        Ok(event.is_some())
    }

    /// Makes room. The session is started: a failure is one of another day.
    async fn end_oldest_sessions(&self, user_id: UserId, now: Timestamp, call: &Call) {
        let reason = SessionEndReason::EndedByUser;
        let (end, act) = (self.end(reason), call.act(now));
        let ended = self
            .db
            .end_oldest_sessions(user_id, MOST_SESSIONS, end, &act);
        match ended.await {
            Ok(0) => {}
            Ok(ended) => {
                warn!(%user_id, ended, "too many sessions: ended the oldest");
                self.outbox.notify_one();
            }
            Err(error) => {
                warn!(%user_id, error = %Causes(&error), "cannot end the oldest sessions");
            }
        }
    }

    fn end(&self, reason: SessionEndReason) -> SessionEnd {
        SessionEnd {
            reason,
            access_token_ttl: self.issuer.ttl(),
        }
    }

    /// Gives an account the configured cost. The login goes on without it if the hasher is
    /// busy or half of the caller's time is over: the next login tries again.
    async fn upgrade_hash(
        &self,
        user_id: UserId,
        old: &PasswordHash,
        password: Verified<'_>,
        call: &Call,
    ) {
        let now = Instant::now();
        let patience = now + call.deadline.saturating_duration_since(now) / 2;
        let upgrade = async {
            let new = self.hasher.rehash(password, patience).await?;
            self.db
                .upgrade_password_hash(user_id, old.as_str(), new.as_str())
                .await?;
            Ok::<_, Error>(())
        };
        match timeout_at(patience, upgrade).await {
            Ok(Ok(())) => debug!(%user_id, "upgraded the cost of a password hash"),
            Ok(Err(error)) => {
                debug!(%user_id, error = %Causes(&error), "postponed the upgrade of a password hash");
            }
            Err(_) => debug!(%user_id, "postponed the upgrade of a password hash"),
        }
    }

    /// An act and its event are written: tells the poller.
    fn committed(&self, event: &Event) {
        debug!(event_id = %event.id, event_type = event.event_type(),
            user_id = %event.user_id, "event written");
        self.outbox.notify_one();
    }
}

fn email_taken() -> Error {
    Audit::of(audit::Event::Register).failed(audit::Reason::EmailTaken);
    Error::EmailTaken
}

fn audit(event: audit::Event, session: &Session) -> Audit<'static> {
    Audit::of(event).user(session.user_id).session(session.id)
}

fn parse_hash(text: &str) -> Result<PasswordHash, Error> {
    PasswordHash::parse(text).map_err(|_| Fault::Corrupt("password hash").into())
}
