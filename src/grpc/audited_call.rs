//! Audits the attempts that end before a use case knows what to write: refused ones, and those
//! that the caller or the deadline cut off. The use cases audit all others themselves, because
//! they know the user.

mod attempt;

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tonic::{Request, Response, Status, metadata::MetadataMap};

pub(super) use self::attempt::Attempt;

use super::{
    Origin, Scope, convert,
    internal_callers::{Identity, ReceivedAddress},
    layer::Deadline,
    server::ConnectionInfo,
};
use crate::{
    auth::{Call, Caller, Error},
    model::{Fingerprint, Person, Traceparent, UserId},
    telemetry::audit::{Event, Reason},
};

/// Metadata key: the person for whom an administrating service calls.
const ACTOR: &str = "x-actor";

/// One call, from its handler's start to its end.
pub(super) struct AuditedCall<'a> {
    identity: Identity<'a>,
    client_address: ReceivedAddress,
    deadline: Instant,
    attempt: Attempt,
}

impl<'a> AuditedCall<'a> {
    pub(super) fn begin<T>(event: Event, origin: Origin<'a>, request: &Request<T>) -> Self {
        let deadline = Deadline::of(request.extensions());
        Self {
            identity: origin.identity,
            client_address: origin.client_address,
            deadline,
            attempt: Attempt::begin(event, origin.context, Some(deadline)),
        }
    }

    pub(super) fn by(&mut self, user: &Caller) {
        self.attempt.user_id = Some(user.account.user_id);
    }

    /// The user that an administrator names. From here on all lines of the call name the user.
    pub(super) fn user(&mut self, id: &str) -> Result<UserId, Error> {
        let id = convert::user_id(id)?;
        self.attempt.user_id = Some(id);
        Ok(id)
    }

    /// The e-mail address of the message.
    pub(super) const fn at(&mut self, email: Fingerprint) {
        self.attempt.context.email = Some(email);
    }

    /// The context of a call that the throttle does not count.
    pub(super) fn call<T>(&self, request: &Request<T>) -> Call {
        Call {
            deadline: self.deadline,
            traceparent: request.extensions().get::<Traceparent>().cloned(),
            client_address: None,
            context: self.attempt.context.clone(),
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
        self.identity.require(scope, self.attempt.audit())
    }

    /// Refuses and audits callers that may not have the keys of access tokens, and connections
    /// that others can read.
    pub(super) fn require_keys<T>(
        &self,
        request: &Request<T>,
        plaintext_keys: bool,
    ) -> Result<(), Error> {
        self.require(Scope::Keys)?;
        let is_private = ConnectionInfo::of(request.extensions()).is_private();
        if !(is_private || plaintext_keys) {
            self.attempt.audit().failed(Reason::PlaintextConnection);
            return Err(Error::PlaintextKeys);
        }
        Ok(())
    }

    pub(super) fn ok(&self) {
        self.attempt.audit().ok();
    }

    /// The context of a call of an administrator, with the person in the metadata. Refuses and
    /// audits callers without the scope.
    pub(super) fn admin_call<T>(
        &mut self,
        scope: Scope,
        request: &Request<T>,
    ) -> Result<Call, Error> {
        let person = person(request.metadata());
        self.attempt.context.person = person.as_ref().ok().cloned().flatten();
        self.require(scope)?;
        person?;
        Ok(self.call(request))
    }

    /// The end of the call, for a handler whose answer is a stream. `deadline` is the stream's.
    pub(super) fn into_attempt(self, deadline: Option<Instant>) -> Attempt {
        let mut attempt = self.attempt;
        attempt.deadline = deadline;
        attempt
    }

    pub(super) fn end<T>(self, outcome: Result<T, Error>) -> Result<Response<T>, Status> {
        self.attempt.end(outcome).map(Response::new)
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
