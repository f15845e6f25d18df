//! Acts of administrators. Unlike the acts of users, they need neither a password nor a session.

mod export;
mod import;
mod password;
mod roles;
mod sessions;
mod suspension;
mod users;

pub use self::{import::NewImport, password::NoReset, roles::SetRoles};
