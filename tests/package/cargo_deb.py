"""Makes Debian packages of the debug build, so that nothing is compiled twice."""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "alerting"))
from stack import ROOT, Failed

VERSION = "3.8.0"


def cargo_deb():
    """cargo-deb at its version, compiled once, without optimization since it is waited for."""
    tool = ROOT / "target/tools/bin/cargo-deb"
    if not tool.exists() or VERSION not in run(tool, "--version").split():
        print(f"compiling cargo-deb {VERSION}", flush=True)
        run(
            "cargo", "install", "--quiet", "cargo-deb", "--version", VERSION, "--locked", "--force", "--no-default-features",
            "--root", ROOT / "target/tools", "--config", "profile.release.opt-level=0", "--config", "profile.release.lto=false",
        )  # fmt: skip
    return tool


def build(tool, path, *options):
    run(tool, "--no-build", "--profile", "dev", "--strip", "--no-dbgsym", "--fast", "--quiet", "--output", path, *options)
    return path


def run(*command):
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} ends with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
