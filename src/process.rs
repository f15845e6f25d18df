//! Limits of the process that are set before anything else.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// If the kernel refuses a limit, the service still works.
pub(crate) fn set_limits() {
    // Hardening: no core dumps, and no reading of our memory by another process of the same
    // user.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, none);

    // As many file descriptors as the system grants. The default of 1024 is for programs that
    // use `select`, and is below our connection limit.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
}
