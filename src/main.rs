//! The command line. Exit codes: 0 done, 1 failed, 64 wrong usage or configuration.

mod command;
#[cfg(target_os = "linux")]
mod process;

use std::{alloc::System, process::ExitCode};

use auth_service::config::Args;
use command::{EX_USAGE, Signals, note};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that the process frees. Passwords and tokens are also in the buffers of
/// protobuf and HTTP/2, which no type of ours owns.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    process::set_limits();
    let signals = match Signals::handle() {
        Ok(signals) => signals,
        Err(error) => {
            note(format_args!("cannot handle signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let args = match Args::from_argv(std::env::args_os()) {
        Ok(args) => args,
        Err(exit) => {
            // If printing fails, the exit code still reports the error.
            let _ = exit.print();
            return exit.code().into();
        }
    };
    command::run(args, &signals).unwrap_or_else(|problems| {
        for problem in problems {
            note(problem);
        }
        EX_USAGE.into()
    })
}
