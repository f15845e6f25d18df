//! The configuration: read once, before anything is started, and complete from then on.
//!
//! [`Args`] holds the given texts, [`Config`] the parsed values. Each part of the service
//! defines its settings; a file here declares the variables of one part, and its function
//! `read` fills the settings in. To add a variable, declare it in that file and read it there.
//!
//! All problems are reported in one run, and none shows a value. Nothing is written while
//! there is a problem; only the embedded default (no `DATABASE_URL`) writes at all.

use std::{net::SocketAddr, path::Path, time::Duration};

mod administration;
mod args;
mod command;
mod data_key;
mod database;
mod edge;
mod embedded;
mod events;
mod internal_callers;
mod kafka;
mod log;
mod passwords;
mod postgres;
mod problem;
mod reader;
mod same_secrets;
mod secret_text;
mod server;
mod throttle;
mod tls;
mod tokens;
mod value;
mod variable;
mod warnings;

pub use self::{
    administration::{Administration, administration},
    args::{Args, Exit},
    command::{Command, File, KeysAction, OutboxAction, Until, Users, UsersAction},
    data_key::FILE as DATA_KEY_FILE,
    database::{database, existing_database},
    edge::{Edge, edge},
    embedded::Embedded,
    log::log,
    problem::Problem,
    server::admin_addr,
    tokens::signing_secrets,
    variable::{Declaration, Default},
};

use self::{embedded::DataFolder, reader::Reader};
use crate::{
    auth, db,
    grpc::{Exposure, InternalCallers},
    model::DataSecrets,
    outbox, password, telemetry,
    tls::server as tls_server,
};

/// The configuration of `serve`.
#[derive(Clone, Debug)]
pub struct Config {
    pub grpc_addr: SocketAddr,
    pub admin_addr: SocketAddr,
    pub request_timeout: Duration,
    pub exposure: Exposure,
    pub database: db::Settings,
    pub auth: auth::Settings,
    /// What `auth.data_keys` was made from.
    data_secrets: DataSecrets,
    pub passwords: password::Settings,
    pub internal_callers: InternalCallers,
    /// `None` for plain text on the gRPC port.
    pub tls: Option<tls_server::Settings>,
    /// `None` keeps the events in the outbox.
    pub kafka: Option<outbox::kafka::Settings>,
    pub log: telemetry::Settings,
    /// `None` with a `DATABASE_URL`.
    pub embedded: Option<Embedded>,
}

impl Config {
    /// Creates the folder and the secrets of the embedded default below `base` (`""` is the
    /// current directory), but only if there is no problem.
    pub fn load(args: &Args, base: &Path) -> Result<Self, Vec<Problem>> {
        let (config, folder) = Self::read(args, base)?;
        let embedded = embedded::create(folder)?;
        Ok(Self { embedded, ..config })
    }

    /// Like [`Self::load`], but creates nothing: [`Embedded`] says what would be created.
    pub fn check(args: &Args, base: &Path) -> Result<Self, Vec<Problem>> {
        let (config, folder) = Self::read(args, base)?;
        let embedded = folder.map(DataFolder::plan);
        Ok(Self { embedded, ..config })
    }

    fn read(args: &Args, base: &Path) -> Result<(Self, Option<DataFolder>), Vec<Problem>> {
        let mut reader = Reader::new(args, base);
        let [grpc_addr, admin_addr] = server::read_addresses(&mut reader);
        let request_timeout = reader.value(&server::REQUEST_TIMEOUT);
        let exposure = server::read_exposure(&mut reader, grpc_addr);
        let database = database::read(&mut reader);
        let auth = tokens::read(&mut reader);
        let passwords = passwords::read(&mut reader, request_timeout);
        let internal_callers = internal_callers::read(&mut reader);
        let tls = tls::read(&mut reader);
        let kafka = kafka::read(&mut reader);
        let log = log::read(&mut reader);
        let config = database.zip(auth);
        let config = config.map(|(database, (auth, data_secrets))| Self {
            grpc_addr,
            admin_addr,
            request_timeout,
            exposure,
            database,
            auth,
            data_secrets,
            passwords,
            internal_callers,
            tls,
            kafka,
            log,
            embedded: None,
        });
        if let Some(config) = &config {
            same_secrets::refuse(config, &mut reader);
        }
        reader.finish(config)
    }
}

/// All variables, in the order of `--help`.
pub fn variables() -> impl Iterator<Item = &'static Declaration> {
    let parts = [
        server::VARIABLES,
        database::VARIABLES,
        tokens::VARIABLES,
        data_key::VARIABLES,
        passwords::VARIABLES,
        throttle::VARIABLES,
        internal_callers::VARIABLES,
        tls::VARIABLES,
        events::VARIABLES,
        kafka::VARIABLES,
        log::VARIABLES,
        edge::VARIABLES,
    ];
    parts.into_iter().flatten()
}

#[cfg(test)]
mod tests;
