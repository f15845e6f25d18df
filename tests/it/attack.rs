//! Clients that want to harm the service, and people who look for secrets.

mod connections;
mod hostile;
mod plaintext;
