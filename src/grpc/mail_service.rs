//! `MailService`: the handler, and the conversion of its messages.

use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use super::{Handlers, Scope, convert};
use crate::{
    auth::{Error, MailToSend},
    model::MailRequestId,
    proto::{self, mail_service_server::MailService},
    telemetry::audit::Event,
};

#[tonic::async_trait]
impl MailService for Handlers {
    async fn claim_mail(
        &self,
        request: Request<proto::ClaimMailRequest>,
    ) -> Result<Response<proto::ClaimMailResponse>, Status> {
        let audited = self.audited(Event::ClaimMail, &request);
        let reply = async {
            audited.require(Scope::Mail)?;
            let call = audited.call(&request);
            let field = "request_id";
            let id = request.into_inner().request_id;
            let id = MailRequestId::parse(convert::required(field, &id)?)
                .ok_or_else(|| Error::invalid(field, "must be a UUID"))?;
            Ok(self.auth.claim_mail(id, &call).await?.into())
        };
        let reply = reply.await;
        audited.end(reply)
    }
}

impl From<MailToSend> for proto::ClaimMailResponse {
    fn from(claimed: MailToSend) -> Self {
        let mail = claimed.mail;
        Self {
            purpose: mail.purpose.encode().into(),
            user_id: mail.user_id.to_string(),
            email: mail.email,
            token: claimed.token.expose().expose_secret().to_owned(),
            expires_at: Some(claimed.expires_at.into()),
            locale: mail.locale.unwrap_or_default(),
            requested_at: Some(mail.requested_at.into()),
        }
    }
}
