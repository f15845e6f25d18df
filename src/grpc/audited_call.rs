//! Audits the attempts that end before a use case knows what to write: refused ones, and those
//! that the caller or the deadline cut off. The use cases audit all others themselves, because
//! they know the user.

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    Origin, Scope, convert,
    internal_callers::{Identity, ReceivedAddress},
    layer::Deadline,
    server::ConnectionInfo,
};
use crate::{
    auth::{Call, Caller, Error},
    model::{Fingerprint, Person, Traceparent, UserId},
    telemetry::audit::{Audit, Context, Event, Reason},
};

/// Metadata key: the person for whom an administrating service calls.
const ACTOR: &str = "x-actor";

/// One call, from its handler's start to its end.
pub(super) struct AuditedCall<'a> {
    event: Event,
    identity: Identity<'a>,
    context: Context,
    client_address: ReceivedAddress,
    user_id: Option<UserId>,
    deadline: Instant,
    has_ended: bool,
}

impl<'a> AuditedCall<'a> {
    pub(super) fn begin<T>(event: Event, origin: Origin<'a>, request: &Request<T>) -> Self {
        Self {
            event,
            identity: origin.identity,
            context: origin.context,
            client_address: origin.client_address,
            user_id: None,
            deadline: Deadline::of(request.extensions()),
            has_ended: false,
        }
    }

    pub(super) fn by(&mut self, user: &Caller) {
        self.user_id = Some(user.account.user_id);
    }

    /// The user that an administrator names. From here on all lines of the call name the user.
    pub(super) fn user(&mut self, id: &str) -> Result<UserId, Error> {
        let id = convert::user_id(id)?;
        self.user_id = Some(id);
        Ok(id)
    }

    /// The e-mail address of the message.
    pub(super) const fn at(&mut self, email: Fingerprint) {
        self.context.email = Some(email);
    }

    /// The context of a call that the throttle does not count.
    pub(super) fn call<T>(&self, request: &Request<T>) -> Call {
        Call {
            deadline: self.deadline,
            traceparent: request.extensions().get::<Traceparent>().cloned(),
            client_address: None,
            context: self.context.clone(),
        }
    }

    /// The context of a call that hashes a password. The permit must be held until the call ends.
    pub(super) fn password_call<T>(
        &self,
        request: &Request<T>,
    ) -> Result<(Call, OwnedSemaphorePermit), Error> {
        let permit = ConnectionInfo::of(request.extensions()).admit_password_call()?;
        Ok((self.counted_call(request)?, permit))
    }

    /// The context of a call that the throttle counts: with the client's address.
    pub(super) fn counted_call<T>(&self, request: &Request<T>) -> Result<Call, Error> {
        Ok(Call {
            client_address: self.client_address?,
            ..self.call(request)
        })
    }

    /// Refuses and audits callers without a scope.
    pub(super) fn require(&self, scope: Scope) -> Result<(), Error> {
        self.identity.require(scope, self.audit())
    }

    /// The context of a call of an administrator, with the person in the metadata. Refuses and
    /// audits callers without the scope.
    pub(super) fn admin_call<T>(
        &mut self,
        scope: Scope,
        request: &Request<T>,
    ) -> Result<Call, Error> {
        self.require(scope)?;
        self.context.person = person(request.metadata())?;
        Ok(self.call(request))
    }

    fn audit(&self) -> Audit<'_> {
        Audit::of(self.event, &self.context).user(self.user_id)
    }

    pub(super) fn end<T>(mut self, outcome: Result<T, Error>) -> Result<Response<T>, Status> {
        self.has_ended = true;
        let reply = outcome.map_err(|error| {
            // Whether an act of an administrator took place is not known after a fault.
            let is_fault = matches!(error, Error::Internal(_)) && self.event.is_administration();
            let reason = refusal(&error).or_else(|| is_fault.then_some(Reason::Fault));
            if let Some(reason) = reason {
                self.audit().failed(reason);
            }
            Status::from(error)
        });
        reply.map(Response::new)
    }
}

impl Drop for AuditedCall<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let is_late = Instant::now() >= self.deadline;
            let reason = if is_late {
                Reason::DeadlineExceeded
            } else {
                Reason::Abandoned
            };
            self.audit().failed(reason);
        }
    }
}

/// The person for whom an administrating service calls, if it names one.
fn person(metadata: &MetadataMap) -> Result<Option<Person>, Error> {
    let mut values = metadata.get_all(ACTOR).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let person = text.map_or(Err("must be one value of printable ASCII"), Person::parse);
    let person = person.map_err(|problem| Error::invalid(ACTOR, problem))?;
    Ok(Some(person))
}

/// The reason of an error that nothing else writes to the log.
const fn refusal(error: &Error) -> Option<Reason> {
    match error {
        Error::InvalidArgument { .. } => Some(Reason::InvalidArgument),
        Error::InvalidToken => Some(Reason::InvalidToken),
        Error::Overloaded { .. } => Some(Reason::Overloaded),
        Error::DeadlineExceeded => Some(Reason::DeadlineExceeded),
        Error::EmailTaken
        | Error::InvalidCredentials
        | Error::EmailNotVerified
        | Error::AccountSuspended { .. }
        | Error::UserNotFound
        | Error::VersionConflict
        | Error::MailRequestNotFound
        | Error::PermissionDenied
        | Error::PlaintextKeys
        | Error::TooManyAttempts { .. }
        // `status` logs the fault.
        | Error::Internal(_)
        // Every client that was away for long has such a token.
        | Error::SessionEnded => None,
    }
}
