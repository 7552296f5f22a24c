//! `tests/run` itself: what it counts as passed and as skipped, with steps that do nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const PASSES: &str = "true";
const SKIPS_ALL: &str = "echo 'skipped: no display'; exit 77";
const SKIPS_A_PART: &str = "echo 'no network' >> \"$TESTS_SKIPPED\"";
const FAILS: &str = "exit 3";

/// The steps of Cargo, which come before the scripts.
const OF_CARGO: usize = 5;

#[test]
fn a_skipped_step_is_not_counted_as_passed() {
    // The scripts of a.., whether CI is set, the exit code, and what is printed last.
    let cases: &[(&[&str], bool, i32, &str)] = &[
        (&[PASSES, PASSES], false, 0, "7 steps passed, 0 skipped in "),
        (&[PASSES, PASSES], true, 0, "7 steps passed, 0 skipped in "),
        (
            &[SKIPS_ALL, PASSES],
            false,
            0,
            "6 steps passed, 1 skipped in ",
        ),
        (&[SKIPS_ALL, PASSES], true, 77, "nothing may be skipped"),
        (
            &[PASSES, SKIPS_A_PART, SKIPS_ALL],
            false,
            0,
            "6 steps passed, 2 skipped in ",
        ),
        // A part that may be skipped with CI set is the script's own decision.
        (
            &[SKIPS_A_PART],
            true,
            0,
            "skipped: tests/a/run, in part: no network",
        ),
        (&[FAILS, PASSES], false, 3, "== tests/a/run"),
        (&[FAILS, PASSES], true, 3, "== tests/a/run"),
    ];
    for (scripts, ci, code, last) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (status, output) = run(folder.path(), scripts, *ci);
        assert_eq!(status, *code, "{scripts:?} {output}");
        assert!(output.contains(last), "{scripts:?} {output}");
        let begun = output.matches("\n== ").count();
        let ends_early = usize::from(status != 0) * (scripts.len() - 1);
        assert_eq!(begun, OF_CARGO + scripts.len() - ends_early, "{output}");
    }
}

/// The exit code and the output of `tests/run` in a folder with these scripts and no others.
fn run(folder: &Path, scripts: &[&str], ci: bool) -> (i32, String) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
    std::fs::create_dir(folder.join("tests")).unwrap();
    // Nothing is installed here, whatever this machine lacks.
    let text = std::fs::read_to_string(ours).unwrap();
    let without_tools = text.replace("\n    tools\n", "\n");
    assert_ne!(text, without_tools);
    std::fs::write(folder.join("tests/run"), without_tools).unwrap();
    for (name, script) in ('a'..).zip(scripts.iter()) {
        program(&folder.join(format!("tests/{name}/run")), script);
    }
    // Cargo has nothing to do.
    let stubs = folder.join("stubs");
    program(&stubs.join("cargo"), PASSES);
    let path = format!("{}:{}", stubs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg(folder.join("tests/run")).env("PATH", path);
    if ci {
        command.env("CI", "1");
    } else {
        command.env_remove("CI");
    }
    let output = command.output().unwrap();
    let both = [output.stdout, output.stderr].concat();
    let both = String::from_utf8(both).unwrap();
    (output.status.code().unwrap(), both)
}

fn program(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}
