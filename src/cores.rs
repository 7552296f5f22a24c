//! Disables core dumps. A dump has every secret of the process and all names in the reports. It may stay on a disk or
//! be sent to a crash reporting service.

/// Disables core dumps of this process by setting their size limit to 0. If the system refuses, the exporter runs
/// anyway, because the administrator decides about the machine.
///
/// On Linux the limit does not apply to dump handlers such as systemd's (`core(5)`). A handler would get the whole
/// memory and the environment. So on Linux this function also marks the process as not dumpable. The mark prevents
/// dumps to files and handlers. It also denies other processes of the same user, such as debuggers, access to the
/// memory, environment and descriptors of this process. Root and the process itself still have access.
pub(crate) fn forbid() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // This cannot fail, because every process may lower its limits.
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
