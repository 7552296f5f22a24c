//! Programs from Debian that some tests hold the exporter against.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The path of a program. If it is not installed, the test is skipped, or fails if `CI` is set.
///
/// # Panics
/// If the program is missing and `CI` is set.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Reports that a test, or a part of it, is skipped: to `tests/run`, which counts it, by the file that `TESTS_SKIPPED` names.
///
/// # Panics
/// If `CI` is set: nothing is skipped there.
pub(crate) fn skip(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{what}: tests/run says how to install it"
    );
    #[expect(clippy::print_stderr, reason = "a test reports what it skips")]
    {
        eprintln!("skipped: {what}");
    }
    if let Some(path) = std::env::var_os("TESTS_SKIPPED") {
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        writeln!(file, "{what}").unwrap();
    }
}

/// Lets promtool check a body of metrics, if it is installed.
///
/// # Panics
/// If promtool finds anything.
pub(crate) fn promtool(body: &str) {
    let Some(promtool) = tool("promtool") else {
        return;
    };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(body.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{body}");
}
