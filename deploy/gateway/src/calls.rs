//! The calls that both the JSON routes and the pages make, each with the retries it allows.

use std::net::IpAddr;

use tonic::{Code, Status};

use crate::{
    auth::{Auth, is_temporary, is_unreachable, retrying},
    proto::{LoginRequest, LoginResponse, LogoutRequest, RefreshRequest, TokenPair},
};

pub async fn login(
    auth: &Auth,
    client: IpAddr,
    message: LoginRequest,
) -> Result<LoginResponse, Status> {
    let logged_in = retrying(is_unreachable, || {
        let request = auth.request(message.clone(), Some(client));
        let mut client = auth.client();
        async move { client.login(request).await }
    });
    logged_in.await
}

pub async fn refresh(
    auth: &Auth,
    client: IpAddr,
    refresh_token: String,
) -> Result<Option<TokenPair>, Status> {
    let message = RefreshRequest { refresh_token };
    let refreshed = retrying(is_temporary, || {
        let request = auth.request(message.clone(), Some(client));
        let mut client = auth.client();
        async move { client.refresh(request).await }
    });
    Ok(refreshed.await?.tokens)
}

pub async fn logout(auth: &Auth, client: IpAddr, refresh_token: String) -> Result<(), Status> {
    let message = LogoutRequest { refresh_token };
    let done = retrying(is_temporary, || {
        let request = auth.request(message.clone(), Some(client));
        let mut client = auth.client();
        async move { client.logout(request).await }
    });
    match done.await {
        // An invalid token has no session to end.
        Err(status) if status.code() != Code::Unauthenticated => Err(status),
        _ => Ok(()),
    }
}
