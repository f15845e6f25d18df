//! The command line. Exit codes: 0 done, 1 failed, 64 wrong usage or configuration.

mod command;
mod process;

use std::{alloc::System, process::ExitCode};

use auth_service::config::Args;
use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that the process frees. Passwords and tokens also lie in buffers that no
/// type of ours owns, those of protobuf and HTTP/2.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    process::keep_memory_private();
    process::allow_many_connections();
    let args = match Args::from_argv(std::env::args_os()) {
        Ok(args) => args,
        Err(exit) => {
            // If it cannot be printed, the exit code still tells.
            let _ = exit.print();
            return exit.code().into();
        }
    };
    command::run(args).unwrap_or_else(|problems| {
        for problem in problems {
            eprintln!("{problem}");
        }
        EX_USAGE.into()
    })
}
