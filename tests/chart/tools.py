"""Programs and schemas that Debian does not have, at pinned versions, kept under target/tools from run to run.

If one cannot be fetched (no Go, no pip, no npm, no network) it is None, and the test that needs it is reported as skipped.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from skipping import skip_part

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "tools"
# Building Kubernetes takes some minutes on two cores, and more if they are busy; a download that hangs must not take an hour.
PATIENCE = 1800
# The processor, as npm calls it.
NPM_MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())

# The newest Prometheus: the version of its module, and that of the program.
PROMETHEUS = ("v0.316.0", "3.16.0")


def go_program(package, version, *flags):
    """The program of a Go package, built at most once."""
    folder = TOOLS / f"{Path(package).name}-{version}"
    program = folder / Path(package).name
    if not program.exists():
        ran = go("install", *flags, f"{package}@{version}", GOBIN=str(folder))
        if ran is None:
            return None
    return program


def go_program_of(module, package, version, *flags, missing=None):
    """The program of a package, built in a copy of its module at most once. The copy gets an empty file in the place of a missing one
    that the module embeds, such as its user interface."""
    program = TOOLS / f"{Path(package).name}-{version}" / Path(package).name
    if not program.exists():
        source = go_module(module, version)
        if source is None:
            return None
        with tempfile.TemporaryDirectory() as copy:
            # Go's copy can only be read.
            subprocess.run(["cp", "--recursive", "--no-preserve=mode", f"{source}/.", copy], check=True)
            if missing:
                (Path(copy) / missing).parent.mkdir(parents=True)
                (Path(copy) / missing).touch()
            if go("build", *flags, "-o", str(program), f"./{package}", folder=copy, GOWORK="off") is None:
                return None
    return program


def go_main(name, main, module, *flags):
    """A program of ours that is a module by itself, for packages that `go install` refuses because their module replaces others."""
    program = TOOLS / f"{name}-{zlib.crc32((main + module + ' '.join(flags)).encode()):08x}" / name
    if not program.exists():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "main.go").write_text(main)
            (Path(folder) / "go.mod").write_text(module)
            # Some gigabytes, which nothing else can use, and which go would leave behind if it is terminated.
            folders = {name: f"{folder}/{name.lower()}" for name in ("GOCACHE", "GOTMPDIR")}
            os.mkdir(folders["GOTMPDIR"])
            # Without debugging information and inlining, it takes a third less time.
            if go("build", "-gcflags=all=-dwarf=false -l", *flags, "-o", str(program), ".", folder=folder, GOWORK="off", **folders) is None:
                return None
    return program


def newest_prometheus(name):
    """The newest `prometheus` or `promtool`."""
    version, released = PROMETHEUS
    # Nothing here discovers targets in a cloud, which would be most of what is compiled.
    return go_program(f"github.com/prometheus/prometheus/cmd/{name}", version, "-tags=remove_all_sd", named(released))


def named(version):
    """The flag by which a program of Prometheus knows its version."""
    return f"-ldflags=-X=github.com/prometheus/common/version.Version={version}"


def go_module(module, version):
    """The folder with the files of a Go module."""
    ran = go("mod", "download", "-json", f"{module}@{version}")
    return Path(json.loads(ran)["Dir"]) if ran else None


def go(*arguments, folder="/", **environment):
    if not shutil.which("go"):
        return skip_part(f"go {' '.join(arguments)}: Go is not here", unless_ci=False)
    # GOFLAGS of the environment may name a vendor folder, which there is not. Nothing needs a compiler of C.
    environment = os.environ | {"GOFLAGS": "-buildvcs=false -mod=mod", "GO111MODULE": "on", "CGO_ENABLED": "0"} | environment
    ran = subprocess.run(["go", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if ran.returncode:
        return skip_part(f"go {' '.join(arguments)}: {last_line(ran.stderr)}")
    return ran.stdout or "done"


def wheel(name, version):
    """A file of PyPI, opened: only read, never installed."""
    folder = TOOLS / f"{name}-{version}"
    if not list(folder.glob("*.whl")):
        if not shutil.which("pip"):
            return skip_part(f"{name} {version}: pip is not here", unless_ci=False)
        command = ["pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}", f"{name}=={version}"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if ran.returncode:
            return skip_part(f"{name} {version}: {last_line(ran.stderr)}")
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def packages(*requirements):
    """A folder for PYTHONPATH with packages of PyPI and what they need, installed at most once."""
    folder = TOOLS / f"python-{hashlib.sha256(' '.join(requirements).encode()).hexdigest()[:12]}"
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", f"--target={folder}.new", *requirements]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if ran.returncode:
            return skip_part(f"{' '.join(requirements)}: {last_line(ran.stderr)}", unless_ci="No module named pip" not in ran.stderr)
        folder.with_name(f"{folder.name}.new").rename(folder)
    return folder


def npm_file(name, version, path):
    """A file of an npm package, which is not installed: none of its scripts run."""
    file = TOOLS / f"{name}-{version}" / path
    if not file.exists():
        if not shutil.which("npm"):
            return skip_part(f"{name} {version}: npm is not here", unless_ci=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--loglevel=error", f"{name}@{version}"]
        ran = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, timeout=PATIENCE)
        if ran.returncode:
            has_not = any(code in ran.stderr for code in ("E404", "ETARGET"))
            return skip_part(f"{name} {version}: {ran.stderr.partition(chr(10))[0]}", unless_ci=not has_not)
        with tarfile.open(file.parent / last_line(ran.stdout)) as archive:
            new = file.with_name(f"{file.name}.new")
            new.write_bytes(archive.extractfile(f"package/{path}").read())
            new.rename(file)
    return file


def npm_packages(listed):
    """A folder with the packages of npm that the file lists, installed at most once: NAME@VERSION and the checksum of each. What
    they depend on is installed only if it is in the list, and no script of a package runs."""
    if not shutil.which("npm"):
        return skip_part(f"{listed.relative_to(ROOT)}: npm is not here", unless_ci=False)
    packages = dict(read_package(line) for line in listed.read_text().splitlines())
    # A package of a platform's programs, such as @esbuild/linux-arm64.
    packages = {name: package for name, package in packages.items() if "/linux-" not in name or name.endswith(f"-{NPM_MACHINE}")}
    folder = TOOLS / f"npm-{hashlib.sha256(listed.read_bytes()).hexdigest()[:12]}"
    if folder.exists():
        return folder / "node_modules"
    registry = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, timeout=PATIENCE).stdout.strip().rstrip("/")
    for name, package in packages.items():
        # Without its address, npm would first ask for all versions of the package.
        package["resolved"] = f"{registry}/{name}/-/{name.rpartition('/')[2]}-{package['version']}.tgz"
    root = {"dependencies": {name: package["version"] for name, package in packages.items()}}
    new = folder.with_name(f"{folder.name}.new")
    new.mkdir(parents=True, exist_ok=True)
    (new / "package.json").write_text(json.dumps(root))
    locked = {"": root} | {f"node_modules/{name}": package for name, package in packages.items()}
    (new / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": locked}))
    ran = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=new, capture_output=True, text=True, timeout=PATIENCE)
    if ran.returncode:
        return skip_part(f"{listed.relative_to(ROOT)}: {ran.stderr.partition(chr(10))[0]}")
    new.rename(folder)
    return folder / "node_modules"


def read_package(line):
    named, checksum = line.split()
    name, _, version = named.rpartition("@")
    return name, {"version": version, "integrity": checksum}


def last_line(text):
    return "".join(text.splitlines()[-1:])


class Checks:
    """Says what holds and what does not, and counts."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, truth, *found):
        if truth:
            self.passed += 1
            print(f"ok      {what}")
        else:
            self.failed += 1
            print(f"FAILED  {what}", *(f"        {line}" for line in found), sep="\n")
        return truth

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed > 0)
