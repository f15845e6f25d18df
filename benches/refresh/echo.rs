//! The CPU of the service for a refresh, compared with a bare gRPC server whose messages have the
//! same size.

use auth_service::{
    db::Db,
    proto::{
        GetSigningKeyRequest, GetSigningKeyResponse, LoginRequest, LoginResponse, LogoutRequest,
        LogoutResponse, RefreshRequest, RefreshResponse, RegisterRequest, RegisterResponse,
        TokenPair,
        auth_service_server::{AuthService, AuthServiceServer},
    },
};
use prost_types::Timestamp;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::server::{Server, TcpIncoming},
};

use super::{ROUND, ROUNDS, Refresher, clients};
use crate::{
    Result,
    load::closed_loop,
    stats::{median, per_call},
    table::Table,
    world::{Database, Service, say_address},
};

const CLIENTS: usize = 64;
/// As long as an access token of the service.
const TOKEN_LENGTH: usize = 360;

pub async fn compare(
    table: &mut Table,
    database: &Database,
    db: &Db,
    service: &Service,
) -> Result<()> {
    let echo = Service::start_variant(&database.url, "echo").await?;
    let mut ours = clients(service, db, CLIENTS).await?;
    let mut bare = clients(&echo, db, CLIENTS).await?;
    let mut costs = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        costs[0].push(cpu(service, &mut ours).await?);
        costs[1].push(cpu(&echo, &mut bare).await?);
    }
    let [ours, bare] = costs.map(|costs| median(&costs));
    let name = format!("service, CPU of a refresh, {CLIENTS} clients");
    table.costs(&name, ours, "us", "tonic echo", bare, "<= 2x");
    Ok(())
}

/// Microseconds of the service for a call.
async fn cpu(service: &Service, clients: &mut Vec<Refresher>) -> Result<f64> {
    let before = service.cpu_time()?;
    let ran = closed_loop(clients, ROUND).await?;
    let time = service.cpu_time()?.saturating_sub(before);
    Ok(per_call(time.as_secs_f64() * 1e6, ran.count()))
}

struct Echo;

#[tonic::async_trait]
impl AuthService for Echo {
    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> std::result::Result<Response<RefreshResponse>, Status> {
        let tokens = TokenPair {
            access_token: "x".repeat(TOKEN_LENGTH),
            token_type: "Bearer".to_owned(),
            access_token_expires_at: Some(Timestamp::default()),
            refresh_token: request.into_inner().refresh_token,
            refresh_token_expires_at: Some(Timestamp::default()),
        };
        Ok(Response::new(RefreshResponse {
            tokens: Some(tokens),
        }))
    }

    async fn register(
        &self,
        _: Request<RegisterRequest>,
    ) -> std::result::Result<Response<RegisterResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn login(
        &self,
        _: Request<LoginRequest>,
    ) -> std::result::Result<Response<LoginResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn logout(
        &self,
        _: Request<LogoutRequest>,
    ) -> std::result::Result<Response<LogoutResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_signing_key(
        &self,
        _: Request<GetSigningKeyRequest>,
    ) -> std::result::Result<Response<GetSigningKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Serves until the process is killed.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say_address(listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(AuthServiceServer::new(Echo));
    Ok(server.serve_with_incoming(incoming).await?)
}
