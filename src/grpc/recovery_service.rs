//! `RecoveryService`: handlers, and the conversion of their messages.

use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};

use super::{Handlers, convert};
use crate::{
    auth::{Error, PasswordReset, PasswordResetRequest, ResetPassword, answer_delay},
    proto::{self, recovery_service_server::RecoveryService},
    telemetry::audit::Event,
};

#[tonic::async_trait]
impl RecoveryService for Handlers {
    async fn request_password_reset(
        &self,
        request: Request<proto::RequestPasswordResetRequest>,
    ) -> Result<Response<proto::RequestPasswordResetResponse>, Status> {
        let received = Instant::now();
        let mut audited = self.audited(Event::RequestPasswordReset, &request);
        let reply = async {
            self.note_email(&request.get_ref().email, &mut audited);
            let (call, permit) = audited.password_call(&request)?;
            let message = request.into_inner();
            convert::required("email", &message.email)?;
            let request = PasswordResetRequest {
                locale: convert::locale(message.locale)?,
                address: message.email,
            };
            self.auth.request_password_reset(request, &call).await?;
            Ok((proto::RequestPasswordResetResponse {}, permit))
        };
        let reply = reply.await;
        let reply = audited.end(reply);
        if reply.is_ok() {
            sleep(answer_delay(received.elapsed())).await;
        }
        reply.map(|answer| answer.map(|(answer, _permit)| answer))
    }

    async fn reset_password(
        &self,
        request: Request<proto::ResetPasswordRequest>,
    ) -> Result<Response<proto::ResetPasswordResponse>, Status> {
        let audited = self.audited(Event::ResetPassword, &request);
        let reply = async {
            let (call, _permit) = audited.password_call(&request)?;
            let reset = parse_reset(request.into_inner())?;
            Ok(self.auth.reset_password(reset, &call).await?.into())
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn revert_email(
        &self,
        request: Request<proto::RevertEmailRequest>,
    ) -> Result<Response<proto::RevertEmailResponse>, Status> {
        let audited = self.audited(Event::RevertEmail, &request);
        let reply = async {
            let call = audited.call(&request);
            let token = convert::mail_token("token", request.into_inner().token)?;
            let reverted = self.auth.revert_email(&token, &call).await?;
            Ok(proto::RevertEmailResponse {
                user_id: reverted.user_id.to_string(),
                email: reverted.email,
            })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn confirm_email(
        &self,
        request: Request<proto::ConfirmEmailRequest>,
    ) -> Result<Response<proto::ConfirmEmailResponse>, Status> {
        let audited = self.audited(Event::ConfirmEmail, &request);
        let reply = async {
            let call = audited.call(&request);
            let token = convert::mail_token("token", request.into_inner().token)?;
            let confirmed = self.auth.confirm_email(&token, &call).await?;
            Ok(proto::ConfirmEmailResponse {
                user_id: confirmed.user_id.to_string(),
                email: confirmed.email,
            })
        };
        let reply = reply.await;
        audited.end(reply)
    }
}

fn parse_reset(message: proto::ResetPasswordRequest) -> Result<ResetPassword, Error> {
    let new_password = convert::password("new_password", message.new_password);
    let token = convert::mail_token("reset_token", message.reset_token)?;
    Ok(ResetPassword {
        token,
        new_password: new_password?,
        start_session: message.start_session,
        device_name: convert::device_name(message.device_name)?,
    })
}

impl From<PasswordReset> for proto::ResetPasswordResponse {
    fn from(reset: PasswordReset) -> Self {
        let user_id = reset.user_id.to_string();
        match reset.session {
            None => Self {
                user_id,
                ..Self::default()
            },
            Some(session) => Self {
                user_id,
                session_id: session.id.to_string(),
                tokens: Some(session.tokens.into()),
                device_token: session.device_token.expose(),
            },
        }
    }
}
