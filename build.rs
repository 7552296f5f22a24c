//! Tells the program what it was built from, for `--version` and the metric `build_info`, and packs the addresses in it.

use std::path::Path;
use std::process::Command;

fn main() {
    pack_relocations();
    println!("cargo::rerun-if-env-changed=TEAMS_PSTN_REVISION");
    println!("cargo::rerun-if-changed=.git/HEAD");
    let revision = std::env::var("TEAMS_PSTN_REVISION")
        .ok()
        .or_else(|| first_line("git", &["rev-parse", "--short", "HEAD"]));
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    for (name, value) in [
        ("REVISION", revision),
        ("RUSTC", first_line(&compiler, &["--version"])),
    ] {
        println!(
            "cargo::rustc-env=TEAMS_PSTN_{name}={}",
            value.as_deref().unwrap_or("unknown")
        );
    }
}

/// Makes the program of the profile `dist` smaller by 0.28 MB: its addresses, which the loader adjusts, become a bit map.
/// That needs glibc 2.36 where the program runs, which the other profiles do not ask of a developer's machine. A linker
/// that cannot do it ignores the option.
fn pack_relocations() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    // Cargo has no variable for the profile: the path is target/PROFILE/build/PACKAGE/out.
    let out = variable("OUT_DIR");
    let profile = Path::new(&out).ancestors().nth(3).and_then(Path::file_name);
    let target = ["CARGO_CFG_TARGET_OS", "CARGO_CFG_TARGET_ENV"].map(variable);
    if profile.is_some_and(|profile| profile == "dist") && target == ["linux", "gnu"] {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The first line that a program prints, if it exists and succeeds.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .next()
        .map(|line| line.trim_start_matches("rustc ").to_owned())
}
