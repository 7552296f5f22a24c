"""Reports tests that were skipped, so that tests/run counts them as skipped and not as passed.

A script that skips everything ends with the exit code SKIPPED. A script that skips a part of itself adds a line to the file
that TESTS_SKIPPED names. With CI set, a skip is a failure, unless Debian does not have the tool and it cannot be fetched: the
program that could do so is not here, or the registry answers that it does not have the tool.
"""

import os
import sys

# The exit code by which Automake's and Meson's tests report a skip, too.
SKIPPED = 77


def skip(what):
    """Ends the script: nothing of it was tested."""
    if os.environ.get("CI"):
        sys.exit(f"{what}: with CI set, nothing may be skipped")
    report(what)
    sys.exit(SKIPPED)


def skip_part(what, *, unless_ci=True):
    """Reports a part of the script that is not tested."""
    if unless_ci and os.environ.get("CI"):
        sys.exit(f"{what}: with CI set, nothing may be skipped")
    report(what)


def report(what):
    print(f"skipped: {what}", flush=True)
    if path := os.environ.get("TESTS_SKIPPED"):
        with open(path, "a") as file:
            file.write(f"{what}\n")
