//! What the process asks of the operating system, before anything else.

/// No core dump, and no look into our memory by another process of the same user.
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
        // Hardening only: where the kernel refuses, the service still serves.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let _ = setrlimit(Resource::Core, none);
    }
}

/// As many file descriptors as the system grants: its default of 1024 is for programs that
/// use `select`, and fewer than the connections that the server would hold.
pub(crate) fn allow_many_connections() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let most = Rlimit {
            current: limit.maximum,
            ..limit
        };
        // With fewer, fewer connections are held.
        let _ = setrlimit(Resource::Nofile, most);
    }
}
