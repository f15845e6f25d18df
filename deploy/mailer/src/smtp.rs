//! Connections to the SMTP server, each with a time limit for all that it waits for.
//!
//! lettre has a transport with a pool, but its time limit is only for connecting, and its errors
//! do not say at which command a mail failed. Here are as many connections as callers at one time.

use std::{
    error::Error as _,
    fmt,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context as _, bail};
use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, Tls, TlsParameters},
    commands::Rset,
    extension::ClientId,
};
use percent_encoding::percent_decode_str;
use url::Url;

/// For each answer of the server, and for connecting with TLS and login. RFC 5321 has minutes
/// for each command, but nothing is lost by another attempt.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A name may have several addresses, of which some do not answer.
const LIMIT_PER_ADDRESS: Duration = Duration::from_secs(10);

/// A fault. Its text never holds the server's words, which often name the address.
#[derive(Debug)]
pub enum Failed {
    Late,
    Smtp(Error),
}

impl Failed {
    /// What the server answered, if that was the fault.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Late => None,
            Self::Smtp(error) => error.status().map(Into::into),
        }
    }

    /// The text of the answer. Do not log it.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Late => String::new(),
            Self::Smtp(error) => error.source().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("the SMTP server did not answer in time"),
            Self::Smtp(error) => match error.status() {
                Some(code) => write!(f, "the SMTP server answered {code}"),
                None if error.is_tls() => f.write_str("TLS with the SMTP server failed"),
                None if error.is_client() => {
                    f.write_str("the SMTP server has no STARTTLS, or no login that is known here")
                }
                None => f.write_str("the connection to the SMTP server failed"),
            },
        }
    }
}

/// The result of the work, or a fault at the limit.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failed> {
    let result = tokio::time::timeout(limit, work).await;
    result.map_err(|_| Failed::Late)?.map_err(Failed::Smtp)
}

pub type Connection = AsyncSmtpConnection;

pub struct Server {
    host: String,
    port: u16,
    /// The name in EHLO.
    name: ClientId,
    tls: Tls,
    login: Option<Credentials>,
    idle: Mutex<Vec<Connection>>,
}

impl Server {
    /// Connects to nothing yet. No error shows the URL, which has a password.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("it is no URL")?;
        let host = url.host_str().context("it has no host")?;
        let parameters = || TlsParameters::new(host.to_owned());
        let (port, tls) = match (url.scheme(), url.query()) {
            ("smtp", None) => (25, Tls::None),
            ("smtp", Some("tls=required")) => (587, Tls::Required(parameters()?)),
            ("smtps", None) => (465, Tls::Wrapper(parameters()?)),
            _ => bail!("it is not smtp://, smtp://..?tls=required or smtps://"),
        };
        let name = url.path().trim_matches('/');
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(port),
            name: match name {
                "" => ClientId::default(),
                name => ClientId::Domain(name.to_owned()),
            },
            tls,
            login: login(&url)?,
            idle: Mutex::default(),
        })
    }

    /// A connection with a login that the server has answered just now.
    pub async fn connect(&self) -> Result<Connection, Failed> {
        let idle = self.idle().pop();
        if let Some(mut connection) = idle {
            // It may have an unfinished mail.
            if within(LIMIT, connection.command(Rset)).await.is_ok() {
                return Ok(connection);
            }
            // The others are as old.
            self.idle().clear();
        }
        within(LIMIT, Box::pin(self.open())).await
    }

    /// Keeps a connection for the next mail. The server must have answered its last command.
    pub fn keep(&self, connection: Connection) {
        self.idle().push(connection);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("no panic while locked")
    }

    async fn open(&self) -> Result<Connection, Error> {
        let tls = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let (server, limit) = ((self.host.as_str(), self.port), Some(LIMIT_PER_ADDRESS));
        let opened = AsyncSmtpConnection::connect_tokio1(server, limit, &self.name, tls, None);
        let mut connection = opened.await?;
        if let Tls::Required(parameters) = &self.tls {
            let parameters = parameters.clone();
            connection.starttls(parameters, &self.name).await?;
        }
        if let Some(login) = &self.login {
            connection.auth(DEFAULT_MECHANISMS, login).await?;
        }
        Ok(connection)
    }
}

fn login(url: &Url) -> anyhow::Result<Option<Credentials>> {
    let Some(password) = url.password() else {
        return Ok(None);
    };
    let [user, password] =
        [url.username(), password].map(|it| percent_decode_str(it).decode_utf8());
    let is_text = "the user or the password is no UTF-8";
    let (user, password) = (user.context(is_text)?, password.context(is_text)?);
    Ok(Some(Credentials::new(user.into(), password.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_has_host_port_login_and_security() {
        let server = Server::new("smtp://localhost").unwrap();
        assert_eq!(server.port, 25);
        assert!(matches!(server.tls, Tls::None) && server.login.is_none());
        let server = Server::new("smtp://mail.example/chat.example?tls=required").unwrap();
        assert_eq!(server.port, 587);
        assert!(matches!(server.tls, Tls::Required(_)));
        assert_eq!(server.name, ClientId::Domain("chat.example".to_owned()));
        let server = Server::new("smtps://ana%40x:p%3Aq@mail.example:4650").unwrap();
        assert_eq!((server.host.as_str(), server.port), ("mail.example", 4650));
        assert!(matches!(server.tls, Tls::Wrapper(_)));
        let login = Credentials::new("ana@x".to_owned(), "p:q".to_owned());
        assert!(server.login == Some(login));
    }

    #[test]
    fn another_url_is_refused_without_showing_it() {
        for url in [
            "secret",
            "http://user:secret@mail.example",
            "smtp://user:secret@mail.example?tls=opportunistic",
            "smtps://user:secret@mail.example?tls=required",
            "smtps://user:secret%ff@mail.example",
        ] {
            let error = Server::new(url).err().expect(url);
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
    }
}
