//! `auth-service completions`: a script for a shell.

use std::io;

use anyhow::Context as _;
use auth_service::config::Args;
use clap_complete::Shell;

pub(super) fn run(shell: Shell) -> anyhow::Result<()> {
    let script = Args::completions(shell);
    io::Write::write_all(&mut io::stdout(), script.as_bytes()).context("cannot print the script")
}
