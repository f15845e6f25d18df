//! The handlers of `AccountService`. The caller is known before the message is read.

use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{Handlers, convert, deadline};
use crate::{
    auth::{Caller, Error},
    proto::{self, account_service_server::AccountService},
};

impl Handlers {
    async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Error> {
        let token = self.internal_callers.user_token(metadata);
        self.auth
            .authenticate(token.ok_or(Error::InvalidToken)?)
            .await
    }
}

#[tonic::async_trait]
impl AccountService for Handlers {
    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        let caller = self.caller(request.metadata()).await?;
        Ok(Response::new(caller.account.into()))
    }

    async fn change_password(
        &self,
        request: Request<proto::ChangePasswordRequest>,
    ) -> Result<Response<proto::ChangePasswordResponse>, Status> {
        let call = self.call(&request)?;
        let caller = self.caller(request.metadata()).await?;
        let (current, new) = convert::change_password(request.into_inner())?;
        self.auth
            .change_password(&caller, &current, new, &call)
            .await?;
        Ok(Response::new(proto::ChangePasswordResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let sessions = self.auth.list_sessions(&caller).await?;
        Ok(Response::new(convert::sessions(
            sessions,
            caller.session_id,
        )))
    }

    async fn end_session(
        &self,
        request: Request<proto::EndSessionRequest>,
    ) -> Result<Response<proto::EndSessionResponse>, Status> {
        let call = deadline::call(&request);
        let caller = self.caller(request.metadata()).await?;
        let id = convert::session_id(&request.into_inner().session_id)?;
        self.auth.end_session(&caller, id, &call).await?;
        Ok(Response::new(proto::EndSessionResponse {}))
    }

    async fn end_other_sessions(
        &self,
        request: Request<proto::EndOtherSessionsRequest>,
    ) -> Result<Response<proto::EndOtherSessionsResponse>, Status> {
        let call = deadline::call(&request);
        let caller = self.caller(request.metadata()).await?;
        let ended = self.auth.end_other_sessions(&caller, &call).await?;
        let ended = u32::try_from(ended).unwrap_or(u32::MAX);
        Ok(Response::new(proto::EndOtherSessionsResponse { ended }))
    }

    async fn delete_account(
        &self,
        request: Request<proto::DeleteAccountRequest>,
    ) -> Result<Response<proto::DeleteAccountResponse>, Status> {
        let call = self.call(&request)?;
        let caller = self.caller(request.metadata()).await?;
        let current = request.into_inner().current_password;
        let current = convert::password("current_password", current)?;
        self.auth.delete_account(&caller, &current, &call).await?;
        Ok(Response::new(proto::DeleteAccountResponse {}))
    }
}
