//! Core dumps: none, since one holds every secret of the process and the names of everybody in the reports, and lies
//! about on a disk or is sent to somebody.

/// Lets the system write none of this process, whatever was allowed before. Where the system refuses, the exporter runs
/// all the same: it is the administrator's machine.
///
/// Linux does not hold a handler of dumps, such as systemd's, to the limit (`core(5)`): it would get the whole memory, and
/// the environment beside it. So there the process is also marked as one that is not dumped, neither into a file nor to a
/// handler. With that its memory, environment and descriptors are closed to others of the same user, debuggers among
/// them; root and the process itself read them as before.
#[cfg(unix)]
pub fn forbid() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // To make a limit smaller is everybody's right.
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Other systems write none unless told to.
#[cfg(not(unix))]
pub fn forbid() {}
