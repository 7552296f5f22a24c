//! Core dumps: none, since one holds every secret of the process and the names of everybody in the reports, and lies
//! about on a disk or is sent to somebody.

/// Lets the system write none of this process, whatever the limit was before; a handler of dumps finds the limit and
/// keeps none either. Where the system refuses, the exporter runs all the same: it is the administrator's machine.
///
/// The process stays readable to its own user, who may read its secrets' files anyway and whose tools measure it.
#[cfg(unix)]
pub fn forbid() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // To make a limit smaller is everybody's right.
    let _ = setrlimit(Resource::Core, none);
}

/// Other systems write none unless told to.
#[cfg(not(unix))]
pub fn forbid() {}
