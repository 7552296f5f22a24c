//! Tells the program what it was built from: for `--version` and the metric `build_info`.

use std::process::Command;

fn main() {
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
