//! Disables core dumps. A dump has every secret of the process and all names in the reports. It may stay on a disk or
//! be sent to a crash reporting service.

/// Disables core dumps of this process. If the system refuses, the exporter runs anyway, because the administrator
/// decides about the machine.
///
/// On Linux the limit does not apply to dump handlers such as systemd's (`core(5)`), which would get the whole memory and the
/// environment. So there the process is also marked as not dumpable, which covers files and handlers. This also denies
/// other processes of the same user, such as debuggers, access to its memory, environment and descriptors. Root and the
/// process itself still have access.
pub fn forbid() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // The result is ignored, because every process may lower its limits.
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
