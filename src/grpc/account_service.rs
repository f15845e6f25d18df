//! `AccountService`: handlers, and the conversion of their messages.
//!
//! A handler authenticates the caller before it reads the message.

use tonic::{Request, Response, Status};

use super::{Handlers, convert};
use crate::{
    auth::{ChangeEmail, ChangedPassword, Error},
    model::{Account, LiveSession, SessionId},
    proto::{self, account_service_server::AccountService},
    telemetry::audit::Event,
};

#[tonic::async_trait]
impl AccountService for Handlers {
    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        let mut audited = self.audited(Event::GetAccount, &request);
        let reply = async {
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let pending_email = self.auth.pending_email(&caller).await?;
            Ok(proto::GetAccountResponse {
                pending_email: pending_email.unwrap_or_default(),
                ..caller.account.into()
            })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn change_password(
        &self,
        request: Request<proto::ChangePasswordRequest>,
    ) -> Result<Response<proto::ChangePasswordResponse>, Status> {
        let mut audited = self.audited(Event::ChangePassword, &request);
        let reply = async {
            let (call, _permit) = audited.password_call(&request)?;
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let message = request.into_inner();
            let current = convert::password("current_password", message.current_password);
            let new = convert::password("new_password", message.new_password);
            let (current, new) = (current?, new?);
            let changed = self.auth.change_password(&caller, &current, new, &call);
            Ok(changed.await?.into())
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let mut audited = self.audited(Event::ListSessions, &request);
        let reply = async {
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let sessions = self.auth.list_sessions(&caller).await?;
            Ok(list(sessions, caller.session_id))
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn end_session(
        &self,
        request: Request<proto::EndSessionRequest>,
    ) -> Result<Response<proto::EndSessionResponse>, Status> {
        let mut audited = self.audited(Event::EndSession, &request);
        let reply = async {
            let call = audited.call(&request);
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let id = convert::session_id(&request.into_inner().session_id)?;
            self.auth.end_session(&caller, id, &call).await?;
            Ok(proto::EndSessionResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn end_other_sessions(
        &self,
        request: Request<proto::EndOtherSessionsRequest>,
    ) -> Result<Response<proto::EndOtherSessionsResponse>, Status> {
        let mut audited = self.audited(Event::EndOtherSessions, &request);
        let reply = async {
            let call = audited.call(&request);
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let ended = self.auth.end_other_sessions(&caller, &call).await?;
            let ended = u32::try_from(ended).unwrap_or(u32::MAX);
            Ok(proto::EndOtherSessionsResponse { ended })
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn delete_account(
        &self,
        request: Request<proto::DeleteAccountRequest>,
    ) -> Result<Response<proto::DeleteAccountResponse>, Status> {
        let mut audited = self.audited(Event::DeleteAccount, &request);
        let reply = async {
            let (call, _permit) = audited.password_call(&request)?;
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let current = request.into_inner().current_password;
            let current = convert::password("current_password", current)?;
            self.auth.delete_account(&caller, &current, &call).await?;
            Ok(proto::DeleteAccountResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn change_email(
        &self,
        request: Request<proto::ChangeEmailRequest>,
    ) -> Result<Response<proto::ChangeEmailResponse>, Status> {
        let mut audited = self.audited(Event::ChangeEmail, &request);
        let reply = async {
            let (call, _permit) = audited.password_call(&request)?;
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let change = parse_change(request.into_inner())?;
            self.auth.change_email(&caller, change, &call).await?;
            Ok(proto::ChangeEmailResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }

    async fn request_email_verification(
        &self,
        request: Request<proto::RequestEmailVerificationRequest>,
    ) -> Result<Response<proto::RequestEmailVerificationResponse>, Status> {
        let mut audited = self.audited(Event::RequestEmailVerification, &request);
        let reply = async {
            let call = audited.counted_call(&request)?;
            let caller = self.caller(request.metadata(), &mut audited).await?;
            let locale = convert::locale(request.into_inner().locale)?;
            (self.auth)
                .request_email_verification(&caller, locale, &call)
                .await?;
            Ok(proto::RequestEmailVerificationResponse {})
        };
        let reply = reply.await;
        audited.end(reply)
    }
}

fn parse_change(message: proto::ChangeEmailRequest) -> Result<ChangeEmail, Error> {
    let current_password = convert::password("current_password", message.current_password)?;
    Ok(ChangeEmail {
        current_password,
        new_email: convert::email("new_email", &message.new_email)?,
        locale: convert::locale(message.locale)?,
    })
}

impl From<ChangedPassword> for proto::ChangePasswordResponse {
    fn from(changed: ChangedPassword) -> Self {
        Self {
            tokens: Some(changed.tokens.into()),
            device_token: changed.device_token.expose(),
        }
    }
}

impl From<Account> for proto::GetAccountResponse {
    fn from(account: Account) -> Self {
        Self {
            user_id: account.user_id.to_string(),
            email: account.email,
            created_at: Some(account.created_at.into()),
            password_changed_at: Some(account.password_changed_at.into()),
            email_verified_at: account.email_verified_at.map(Into::into),
            pending_email: String::new(),
            roles: account.roles.to_list(),
        }
    }
}

fn list(sessions: Vec<LiveSession>, current: SessionId) -> proto::ListSessionsResponse {
    let sessions = sessions.into_iter().map(|session| proto::Session {
        current: session.id == current,
        ..session.into()
    });
    proto::ListSessionsResponse {
        sessions: sessions.collect(),
    }
}
