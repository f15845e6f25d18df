//! Which server of the URL is used, and whether the connection to it is encrypted.

use std::{convert::Infallible, error::Error, io, time::Duration};

use diesel::{ConnectionError, dsl::sql, sql_types::Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Config, Connection, Socket, config::SslMode, error::SqlState, tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::bad;
use crate::{
    db::{Encryption, Postgres},
    telemetry::Causes,
};

/// After this time without an answer from one server, the next one is asked as well.
const SILENCE: Duration = Duration::from_millis(500);

/// The hint for an operator if TLS cannot be used.
const UNUSABLE: &str = "the server needs a certificate with a key that is RSA (of 2048 bits or \
    more), Ed25519, or ECDSA with P-256 or P-384, and with a signature by such a key; \
    sslmode=disable connects in plain text";

/// A name for servers whose own cannot be one in TLS, such as `fe80::1%eth0`: it is not sent,
/// and no certificate has it.
const NO_NAME: &str = "0.0.0.0";

pub(super) struct Servers {
    postgres: Postgres,
    connector: Connector,
    /// The statements that prepare a connection.
    settings: String,
}

impl Servers {
    pub(super) fn new(postgres: &Postgres, settings: String) -> Self {
        Self {
            connector: Connector(MakeRustlsConnect::new((*postgres.tls).clone())),
            postgres: postgres.clone(),
            settings,
        }
    }

    /// Connects to the first server that the URL accepts (`target_session_attrs`). The next one
    /// is asked as soon as the one before has refused or has not answered for [`SILENCE`], so
    /// that a server that hangs does not hide its successor.
    pub(super) async fn connect(&self) -> Result<AsyncPgConnection, ConnectionError> {
        let mut servers: Vec<_> = self.postgres.servers.iter().collect();
        if self.postgres.in_random_order {
            servers.sort_by_cached_key(|_| getrandom::u32().unwrap_or_default());
        }
        let mut servers = servers.into_iter();
        let mut attempts = FuturesUnordered::new();
        let mut refusal = ConnectionError::BadConnection("no server is named".to_owned());
        loop {
            let more = servers
                .next()
                .map(|server| attempts.push(self.connect_to(server)));
            let answer = match more {
                Some(()) => timeout(SILENCE, attempts.next()).await,
                None => Ok(attempts.next().await),
            };
            match answer {
                Ok(Some(Ok(conn))) => return Ok(conn),
                Ok(Some(Err(error))) => refusal = error,
                Ok(None) => return Err(refusal),
                Err(_) => {}
            }
        }
    }

    async fn connect_to(&self, server: &Config) -> Result<AsyncPgConnection, ConnectionError> {
        let (client, connection) = self.negotiate(server).await?;
        let mut conn =
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
        // First, because a standby refuses every query at the isolation level SERIALIZABLE.
        conn.batch_execute(&self.settings).await.map_err(bad)?;
        if self.postgres.needs_primary {
            let is_primary = diesel::select(sql::<Bool>("NOT pg_catalog.pg_is_in_recovery()"));
            if !is_primary.get_result(&mut conn).await.map_err(bad)? {
                let standby = "the server is a standby".to_owned();
                return Err(ConnectionError::BadConnection(standby));
            }
        }
        Ok(conn)
    }

    /// As libpq does: `prefer` goes on in plain text, and `allow` encrypts, if the first way
    /// fails for a reason that the second may not have.
    async fn negotiate(&self, server: &Config) -> Result<Connected, ConnectionError> {
        let first = match self.postgres.encryption {
            // A socket is never encrypted.
            _ if server.get_ssl_mode() == SslMode::Disable => SslMode::Disable,
            Encryption::OnDemand => SslMode::Disable,
            _ => server.get_ssl_mode(),
        };
        let second = match self.postgres.encryption {
            _ if server.get_ssl_mode() == SslMode::Disable => None,
            Encryption::IfPossible => Some(SslMode::Disable),
            Encryption::OnDemand => Some(SslMode::Require),
            _ => None,
        };
        let failure = match (self.attempt(server, first).await, second) {
            (Err(error), _) if is_unusable(&error) => {
                let error = format!("{}: {UNUSABLE}", Causes(&error));
                return Err(ConnectionError::BadConnection(error));
            }
            (Err(error), Some(_)) if may_depend_on_encryption(&error) => error,
            (attempt, _) => return attempt.map_err(bad),
        };
        let second = second.unwrap_or(first);
        self.attempt(server, second).await.map_err(|error| {
            ConnectionError::BadConnection(format!(
                "{}: {}; {}: {}",
                describe(first),
                Causes(&failure),
                describe(second),
                Causes(&error)
            ))
        })
    }

    async fn attempt(
        &self,
        server: &Config,
        mode: SslMode,
    ) -> Result<Connected, tokio_postgres::Error> {
        let mut server = server.clone();
        server.ssl_mode(mode);
        server.connect(self.connector.clone()).await
    }
}

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
type Connected = (Client, Connection<Socket, TlsStream>);

fn describe(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "in plain text",
        _ => "encrypted",
    }
}

/// Whether ring cannot verify the server's key or signature, although OpenSSL might. Plain text
/// instead of it would be a surprise: libpq encrypts.
fn is_unusable(error: &tokio_postgres::Error) -> bool {
    use rustls::{AlertDescription::HandshakeFailure, CertificateError, Error};
    matches!(
        tls_error(error),
        Some(
            Error::AlertReceived(HandshakeFailure)
                | Error::InvalidCertificate(
                    CertificateError::BadSignature
                        | CertificateError::BadEncoding
                        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
                )
        )
    )
}

fn tls_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref()
}

/// Whether the server refused the login or the handshake. A server that cannot be reached, or
/// that is a standby, is not asked again.
fn may_depend_on_encryption(error: &tokio_postgres::Error) -> bool {
    if let Some(state) = error.code() {
        // Invalid authorisation, and the protocol violation that proxies answer.
        return state.code().starts_with("28") || *state == SqlState::PROTOCOL_VIOLATION;
    }
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(cause) => matches!(
            cause.kind(),
            io::ErrorKind::InvalidData
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        ),
        None => true,
    }
}

#[derive(Clone)]
struct Connector(MakeRustlsConnect);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = TlsStream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Infallible> {
        let is_name = ServerName::try_from(host).is_ok();
        let name = if is_name { host } else { NO_NAME };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, name)
    }
}
