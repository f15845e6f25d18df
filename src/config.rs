//! stub
#![allow(missing_docs)]
use std::path::PathBuf;
pub struct DatabaseConfig { pub url: DatabaseUrl, pub max_connections: usize }
pub enum DatabaseUrl { Sqlite(PathBuf), Postgres(Box<PostgresConfig>) }
pub struct PostgresConfig { pub config: tokio_postgres::Config, pub tls: TlsMode, pub root_cert: Option<PathBuf> }
#[derive(Clone, Copy)]
pub enum TlsMode { Disable, Prefer, Require, VerifyFull }
pub struct InternalToken { pub name: String, pub sha256: [u8; 32] }
