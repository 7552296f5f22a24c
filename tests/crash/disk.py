#!/usr/bin/python3
"""Lets the exporter keep its state files on a disk that fills up in the middle of one, and one that becomes read-only.

Each time it must go on as if nothing were: polls succeed, the files stay as they were and nothing lies beside them, a metric
counts and the log says why. With room again the exporter writes what it could not write, even if Graph answers no requests
by then, and a restart serves it. tests/crash/run calls this in a mount namespace of its own, where its disk is: 64 KiB of
memory. Root only.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "alerting"))
from graph import DIALOUT, FAMILIES, Graph
from stack import CONTOSO, Failed, Stack, cargo_build, get, until

SIZE = "64k"
# A file takes more than a page of memory, and all of them with the one beside less than the disk has.
ROWS = 100
PAGE = 4096
# Seconds that nothing takes here, also on a machine with much else to do.
PATIENCE = 60
FULL, READ_ONLY = "No space left on device", "Read-only file system"


def main():
    with Stack() as stack:
        disk = Disk(stack)
        disk.works()
        filler = disk.folder / "filler"
        disk.fails(FULL, fill=lambda: fill(filler))
        disk.recovers(filler.unlink)
        disk.fails(READ_ONLY, fill=lambda: disk.mount("remount,ro"))
        last = disk.hold()
        kept = disk.restarts()
        if kept >= last:
            raise Failed(f"{kept} is served, and {last} could not be written")
        disk.recovers(lambda: disk.mount("remount,rw"))


class Disk:
    def __init__(self, stack):
        self.stack = stack
        self.binary, _ = cargo_build()
        self.graph = Graph(ROWS)
        self.folder = stack.work / "state"
        self.folder.mkdir()
        self.mount("mode=0700")
        settings = "reports: [dialout]\nstorage: {path: state}"
        self.config = stack.config("exporter", self.graph.url, [("contoso", CONTOSO)], settings)
        self.log = stack.work / "exporter.log"
        self.start()

    def mount(self, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},{options}", "tmpfs", self.folder], check=True)

    def start(self):
        self.log.unlink(missing_ok=True)
        self.process = self.stack.start("exporter", self.binary, f"--config.file={self.config}", "--web.listen-address=127.0.0.1:0")
        self.address = self.wait("it listens", lambda: re.search(r" address=(\S+) .*\n", self.log.read_text()))[1]

    def works(self):
        # Also with the previous period.
        self.wait("two files are written", lambda: self.counted("written") >= 2)
        size = self.file().stat().st_size
        if not 2 * PAGE < size < 32 << 10:
            raise Failed(f"a file has {size} bytes, so nothing fails in the middle of it")
        print(f"ok      a file of {size} bytes on a disk of {SIZE}")

    def fails(self, error, fill):
        """Two writes fail in the given way, polls go on, and the folder is as it was."""
        begun = self.log.stat().st_size
        failed = self.counted("write_failed")
        # Again and again, for a write that was under way gives room back when it is over.
        before = self.wait("two writes fail", lambda: self.stuck(fill, failed))
        names = {name for name, *_ in before} - {"filler"}
        if names != {self.file().name}:
            raise Failed(f"there is {names}")
        failed, polls = self.counted("write_failed"), self.successes()
        self.wait("two more fail", lambda: self.counted("write_failed") >= failed + 2 and self.successes() >= polls + 2)
        served = self.served()
        # If there is room to begin a write, one is under way once in a while.
        self.wait("nothing lies beside", lambda: self.listing() == before)
        said = self.log.read_text()[begun:]
        if f"error=\"cannot write {self.file()}: {error}" not in said or "check whether the disk is full" not in said:
            raise Failed(f"the log does not say {error}:\n{said}")
        if self.served() < served or self.process.poll() is not None:
            raise Failed("it does not go on")
        print(f"ok      {error}: counted, logged, polls go on, the old file stays and nothing beside it")

    def stuck(self, fill, failed):
        """What there is, once two more writes than these have failed and to fill the disk again changes nothing."""
        before = self.listing()
        is_stuck = attempt(fill) and self.counted("write_failed") >= failed + 2 and self.listing() == before
        return before if is_stuck else None

    def recovers(self, make_room):
        """What could not be written is written with room again, though no poll brings anything new."""
        last, written = self.hold(), self.counted("written")
        make_room()
        self.wait("the next write succeeds", lambda: self.counted("written") > written)
        kept = self.restarts()
        if kept != last:
            raise Failed(f"{kept} is served, and {last} was when there was room again")
        print("ok      with room again the next write succeeds, and a restart without Graph serves it")

    def hold(self):
        """From here on no poll succeeds; returns the version that is served."""
        failures = self.failures()
        self.graph.hold()
        # Earlier answers have been served by then.
        self.wait("a poll fails", lambda: self.failures() > failures)
        return self.served()

    def restarts(self):
        """While Graph is held: the version of the file is served then, and the exporter is not stopped by its disk."""
        self.stack.end(self.process)
        names = self.wait("nothing lies beside", self.listing)
        header = self.file().read_bytes().split(b"\n")[1]
        expected = int(json.loads(header)["state"]["summary"]["top"][0]["charge"])
        self.start()
        kept = self.served()
        if kept != expected or self.counted("restored") != 1:
            raise Failed(f"{kept} is served, and the file is of {expected}")
        left = self.wait("nothing lies beside", self.listing)
        if left != names:
            raise Failed(f"of {names} there is {left}")
        self.graph.release()
        self.wait("it polls again", lambda: self.served() > kept)
        return kept

    def served(self):
        """The version of the report that is served, from the first sample to the last."""
        text = get(f"http://{self.address}/metrics", PATIENCE)
        values = {value for family in FAMILIES[DIALOUT] for value in re.findall(rf"^{family}{{.*}} (\S+)$", text, re.MULTILINE)}
        if len(values) != 1:
            raise Failed(f"not one version is served: {values}")
        return int(values.pop())

    def successes(self):
        return self.number(r'report_polls_total\{report="dialout".*\}') - self.failures()

    def failures(self):
        return self.number(r'report_failures_total\{reason="\w+",report="dialout".*\}')

    def counted(self, outcome):
        return self.number(rf'storage_files_total\{{outcome="{outcome}"\}}')

    def number(self, sample):
        text = get(f"http://{self.address}/metrics", PATIENCE)
        return sum(int(value) for value in re.findall(rf"^teams_pstn_{sample} (\d+)$", text, re.MULTILINE))

    def file(self):
        [path] = self.folder.glob("*.state")
        return path

    def listing(self):
        """Names and content, unless something is being written: a file that was replaced is another."""
        paths = list(self.folder.iterdir())
        if any(path.suffix == ".new" for path in paths):
            return None
        return {(path.name, path.stat().st_size, path.stat().st_ino) for path in paths}

    def wait(self, what, condition):
        return until(what, condition, PATIENCE)


def fill(path):
    """All but one page, so that a write begins and comes no further. A write that was under way may have taken that page."""
    with open(path, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            file.truncate(max(file.tell() - PAGE, 0))
    return True


def attempt(action):
    """Whether it could be done; a disk is busy while a file is written."""
    try:
        action()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


if __name__ == "__main__":
    begun = time.monotonic()
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAILED  {failure}")
    print(f"ok      the disk in {time.monotonic() - begun:.0f} s")
