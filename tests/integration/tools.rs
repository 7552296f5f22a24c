//! Programs from Debian that some tests hold the exporter against.

use std::path::PathBuf;

/// Where a program is. Where it is not, the test is skipped with a word, or, under `CI`, fails: nothing is skipped there.
///
/// # Panics
/// Where the program is missing and `CI` is set.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{name} is missing: tests/run says how to install it"
        );
        #[expect(clippy::print_stderr, reason = "what is skipped is said")]
        {
            eprintln!("skipped: {name} is not installed");
        }
    }
    found
}
