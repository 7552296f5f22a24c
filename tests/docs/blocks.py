"""The code blocks of documents: commands that run, configurations that are checked, and queries."""

import os
import re
import subprocess
import textwrap

from stack import ROOT, Failed

BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)
# Input for commands that ask for some: the secret of the simulator's tenants.
TYPED = "not-a-secret\n"
# A configuration for documents that begin with an exporter that runs.
STARTED = """
poll: {interval: 10s}
labels: {user: pseudonym, pseudonym_key_file: pseudonym.key}
departments: {file: departments.csv}
tenants:
  - name: contoso
    tenant_id: 11111111-2222-3333-4444-555555555555
    client_id: 66666666-7777-8888-9999-000000000000
    client_secret_file: secrets/contoso
"""
TENANTS = STARTED[STARTED.index("tenants:") :]
# Programs under the names that documents use. A daemon moves to the background when it is ready, in place of the one before.
EXPORTER = """#!/bin/bash
case " $* " in
  *" check "*|*" export "*|*" backfill "*|*" pseudonym "*|*" healthcheck "*|*" --config.check "*|*" --help "*|*" --version "*) exec {binary} "$@" ;;
esac
if [[ -e {work}/daemon ]]; then
  kill "$(<{work}/daemon)" 2>/dev/null
  while curl --silent --output /dev/null http://localhost:10053/-/healthy; do sleep 0.05; done
fi
{binary} "$@" </dev/null >{work}/daemon.log 2>&1 &
echo $! >{work}/daemon
for _ in {{1..1200}}; do
  curl --silent --fail --output /dev/null http://localhost:10053/-/ready && exit 0
  kill -0 $! 2>/dev/null || break
  sleep 0.1
done
cat {work}/daemon.log >&2
exit 1
"""
CARGO = """#!/bin/bash
[[ "$1 $2 $3" == "run --release --" || "$*" == "run --release" ]] || {{ echo "cargo $* is not known here" >&2; exit 1; }}
shift $(($# < 3 ? $# : 3))
exec teams-pstn-exporter "$@"
"""
# The services of Debian's packages, which read /etc/default, without systemd.
SYSTEMCTL = """#!/bin/bash
[[ $1 == restart ]] || {{ echo "systemctl $* is not known here" >&2; exit 1; }}
for service in "${{@:2}}"; do
  . /etc/default/$service
  case $service in
    prometheus) port=9090 config=prometheus storage=storage.tsdb ;;
    prometheus-alertmanager) port=9093 config=alertmanager storage=storage ;;
  esac
  $service --config.file=/etc/prometheus/$config.yml --$storage.path={work}/$service $ARGS >{work}/$service.log 2>&1 &
  until curl --silent --fail --output /dev/null http://localhost:$port/-/ready; do kill -0 $! || exit 1; sleep 0.1; done
done
"""


class Sessions:
    def __init__(self, work, binary, exceptions):
        self.work, self.exceptions, self.excepted = work, exceptions, set()
        self.commands = self.left_out = self.configurations = 0
        self.binary, self.bin = binary, work / "bin"
        self.bin.mkdir()
        for name, text in (("teams-pstn-exporter", EXPORTER), ("cargo", CARGO), ("systemctl", SYSTEMCTL)):
            (self.bin / name).write_text(text.format(binary=binary, work=work))
            (self.bin / name).chmod(0o755)
        self.typed = work / "typed"
        self.typed.write_text(TYPED)
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.environment = environment | {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def run(self, document):
        folder = self.work / document.stem
        folder.mkdir()
        for name in ("deploy", "dashboards", "tests"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "secrets").mkdir()
        (folder / "secrets" / "contoso").write_text(TYPED)
        (folder / "pseudonym.key").write_text("0123456789abcdef" * 4)
        (folder / "departments.csv").write_text("user,department\nmegan.bowen@contoso.com,Sales\n")
        (folder / "config.yml").write_text(STARTED)
        begin = f"cd {folder}; teams-pstn-exporter --config.file=config.yml; trap 'echo \"failed: $AT\" >&2' ERR"
        script, configurations, before = ["set -e", begin], [], self.commands
        for line, language, text in found(document):
            if language in ("sh", "bash"):
                for number, command in split(text):
                    script += self.command(f"{document.name}:{line + number}", command)
            elif language == "console":
                raise Failed(f"{document.name}:{line}: a block of commands is sh or bash, so that it runs here")
            elif language == "csv" and text.startswith("user,department\n"):
                (folder / "departments.csv").write_text(text)
            elif language == "yaml":
                configurations.append((f"{document.name}:{line}", text))
                if path := re.match(r"# (\S+\.yml)\n", text):
                    written = self.work / f"{document.stem}-{line}.yml"
                    written.write_text(text)
                    script.append(f"cp {written} {path[1]}")
        if self.commands > before:
            self.shell(document, folder, script)
        for where, text in configurations:
            self.configuration(folder, where, text)

    def command(self, where, command):
        for pattern, _ in self.exceptions:
            if re.search(pattern, command):
                self.excepted.add(pattern)
                self.left_out += 1
                return []
        self.commands += 1
        return [f"AT='{where}'", f"exec <{self.typed}", command]

    def shell(self, document, folder, script):
        path = self.work / f"{document.stem}.sh"
        path.write_text("\n".join(script) + "\n")
        with open(self.work / f"{document.stem}.log", "wb") as log:
            ended = subprocess.run(["bash", path], cwd=folder, env=self.environment, stdout=log, stderr=log, timeout=300)
        if ended.returncode:
            raise Failed(f"a command of {document.name} ends with {ended.returncode}")

    def configuration(self, folder, where, text):
        keys = set(re.findall(r"^(\w+):", text, re.M))
        if "tls_server_config" in keys:
            # Its certificate and its hash are examples; tests/integration/web has the format.
            return
        self.configurations += 1
        path = folder / "checked.yml"
        path.write_text(text if "tenants" in keys else text + TENANTS)
        command = [self.binary, "--config.check", f"--config.file={path}"]
        if "scrape_configs" in keys:
            path.write_text(text)
            command = ["promtool", "check", "config", path]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise Failed(f"{where}: the configuration has an error\n{ran.stdout}{ran.stderr}")


def found(document):
    """The blocks of a document: the line before the text, the language, and the text without its indentation."""
    text = document.read_text()
    return [(text[: match.start()].count("\n") + 1, match[2], textwrap.dedent(match[3])) for match in BLOCK.finditer(text)]


def split(text):
    """Commands with their lines: the lines of a loop or of a continued command together, comments and empty lines left out."""
    commands, pending = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        pending += line + "\n"
        if line.endswith(("\\", "|")) or subprocess.run(["bash", "-n", "-c", pending], capture_output=True).returncode:
            continue
        if pending.strip() and not pending.startswith("#"):
            commands.append((number, pending.rstrip("\n")))
        pending = ""
    if pending:
        raise Failed(f"no whole command: {pending}")
    return commands


def queries(document):
    """The queries of a document, one per line of its PromQL blocks."""
    return [(line + number, query) for line, language, text in found(document) if language == "promql" for number, query in enumerate(text.splitlines(), 1) if query]
