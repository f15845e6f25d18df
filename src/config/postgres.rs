//! The URL of a Postgres server, as libpq reads it.
//!
//! Each parameter of libpq (`PQconninfoOptions`, Postgres 18) has libpq's meaning or is refused
//! by its name with a hint, so that no setting of an operator is silently lost. What libpq
//! takes from elsewhere (`PG..` variables, files in the home folder) is not read. Our own
//! defaults are only time limits and a name. A problem never shows a value, or an unknown name:
//! it may be a secret.

mod encryption;
mod parameters;
mod servers;
mod uri;

use tokio_postgres::config::{LoadBalanceHosts, TargetSessionAttrs};

use self::parameters::Parameters;
use crate::db::Postgres;

const ORDERS: [(&str, LoadBalanceHosts); 2] = [
    ("disable", LoadBalanceHosts::Disable),
    ("random", LoadBalanceHosts::Random),
];

/// Which of several servers is used. The service needs one that can be written, so the choices
/// `read-only`, `standby` and `prefer-standby` are left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    Any,
    ReadWrite,
    Primary,
}

const SESSIONS: [(&str, Session); 3] = [
    ("any", Session::Any),
    ("read-write", Session::ReadWrite),
    ("primary", Session::Primary),
];

pub(super) fn parse(url: &str) -> Result<Postgres, String> {
    let given = Parameters::check(uri::parse(url)?)?;
    let session = given.choice("target_session_attrs", &SESSIONS)?;
    let order = given.choice("load_balance_hosts", &ORDERS)?;
    let (encryption, tls) = encryption::read(&given)?;
    let mut servers = servers::read(&given, encryption)?;
    for server in &mut servers {
        if session == Some(Session::ReadWrite) {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        server.load_balance_hosts(order.unwrap_or(LoadBalanceHosts::Disable));
    }
    Ok(Postgres {
        servers,
        encryption,
        tls,
        needs_primary: session == Some(Session::Primary),
        in_random_order: order == Some(LoadBalanceHosts::Random),
    })
}
