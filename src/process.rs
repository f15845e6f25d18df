//! Settings of the process in the operating system, made before anything else.

/// Prevents core dumps, and reading of our memory by another process of the same user.
pub(crate) fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{
            DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit,
        };
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        // This is only hardening: if the kernel refuses, the service still works.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let _ = setrlimit(Resource::Core, none);
    }
}

/// Raises the limit of file descriptors to the highest that the system grants. The default of
/// 1024 is for programs that use `select`, and is below our connection limit.
pub(crate) fn allow_many_connections() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let most = Rlimit {
            current: limit.maximum,
            ..limit
        };
        // If the kernel refuses, fewer connections are possible.
        let _ = setrlimit(Resource::Nofile, most);
    }
}
