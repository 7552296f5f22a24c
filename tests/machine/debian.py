"""A Debian 12 in a folder, from where this machine has its packages."""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "alerting"))
from stack import Failed, skip

RELEASE = "bookworm"


def debootstrap(folder, log, packages=()):
    """The smallest system, and what it is to have beside."""
    include = [f"--include={','.join(packages)}"] if packages else []
    with open(log, "w") as output:
        done = subprocess.run(["debootstrap", "--variant=minbase", *include, RELEASE, folder, mirror()], stdout=output, stderr=output)
    if done.returncode:
        # The log may have the name of a private mirror in it, so it is not shown here.
        raise Failed(f"debootstrap ends with {done.returncode}; see {log}")


def mirror():
    """The first source of apt."""
    folder = Path("/etc/apt")
    for path in [*sorted(folder.glob("sources.list.d/*.sources")), *sorted(folder.glob("sources.list.d/*.list")), folder / "sources.list"]:
        text = path.read_text() if path.exists() else ""
        if found := re.search(r"^(?:URIs: *|deb (?:\[.*?\] )?)(\S+)", text, re.M):
            return found[1]
    skip("apt has no source of Debian's packages")
