"""Starts and ends what the tests of alerts and dashboards need: simulator, exporter, Prometheus, Alertmanager.

All of it listens on free ports of loopback, lives in one temporary folder and is ended by process id. Nothing waits for
a time to pass, only for a condition, with a deadline.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from skipping import skip, skip_part  # noqa: F401, for the scripts that import this

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CONTOSO = "11111111-2222-3333-4444-555555555555"
FABRIKAM = "fabrikam.example"


class Failed(Exception):
    """A condition did not come true, or something was other than expected."""


def need(*programs):
    """Skips the script if a program is missing."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        skip(f"not installed: {' '.join(missing)}")


def cargo_build():
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--bins", "--example", "alerting-simulator"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    return target / "teams-pstn-exporter", target / "examples" / "alerting-simulator"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, timeout=10):
    # No proxy of the environment stands between us and loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout) as answer:
        return answer.read().decode()


def until(what, condition, seconds=60):
    """The first true value of the condition. An API that does not answer yet is a condition not met."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            last = condition()
        except (urllib.error.URLError, ConnectionError, TimeoutError, json.JSONDecodeError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.1)
    raise Failed(f"not within {seconds} s: {what}; last: {last!r}")


def substitute(text, changes):
    """Replaces each text by another, and fails where there is nothing to replace: the files have moved on."""
    for old, new in changes:
        if old not in text:
            raise Failed(f"nothing to substitute: {old!r}")
        text = text.replace(old, new)
    return text


class Stack:
    def __init__(self):
        self.work = Path(tempfile.mkdtemp(prefix="teams-pstn-"))
        self.processes = []

    def __enter__(self):
        # A test that is terminated ends what it started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, kind, value, trace):
        if kind not in (None, SystemExit):
            for log in sorted(self.work.glob("*.log")):
                print(f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-8:], sep="\n", file=sys.stderr)
        for process in reversed(self.processes):
            self.end(process)
        shutil.rmtree(self.work, ignore_errors=True)

    def start(self, name, *command, **options):
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with open(self.work / f"{name}.log", "ab") as log:
            options = {"stdout": log, "cwd": self.work} | options
            process = subprocess.Popen(
                [str(word) for word in command], stderr=log, env=environment, **options
            )
        self.processes.append(process)
        return process

    def end(self, process):
        if process in self.processes:
            self.processes.remove(process)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def exporter(self, name, binary, *arguments):
        """An exporter of which at least one poll has succeeded; its address."""
        port = free_port()
        self.start(name, binary, *arguments, f"--web.listen-address=127.0.0.1:{port}")
        until(f"{name} is ready", lambda: get(f"http://127.0.0.1:{port}/-/ready"))
        return f"127.0.0.1:{port}"

    def config(self, name, simulator_url, tenants, rest="", interval="1s", timeout="2s"):
        """A configuration file for tenants of the simulator."""
        (self.work / "secret").write_text("not-a-secret")
        lines = [f"poll: {{interval: {interval}, timeout: {timeout}}}", rest, "tenants:"]
        for label, tenant_id in tenants:
            lines += [
                f"  - name: {label}",
                f"    tenant_id: {tenant_id}",
                "    client_id: 66666666-7777-8888-9999-000000000000",
                "    client_secret_file: secret",
                "    client_secret_expires: 2099-01-31",
                f"    graph_url: {simulator_url}",
                f"    authority_url: {simulator_url}",
            ]
        path = self.work / f"{name}.yml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def prometheus(self, targets, alertmanager=None, alert_changes=(), rule_changes=()):
        """Debian's Prometheus with our configuration, rules and alerts, scraping and evaluating every second."""
        folder = self.work / "prometheus"
        folder.mkdir(exist_ok=True)
        source = DEPLOY / "prometheus"
        configuration = substitute(
            (source / "prometheus.yml").read_text(),
            [
                ("interval: 1m", "interval: 1s"),
                ("[localhost:10053]", json.dumps(targets)),
                ("[localhost:9093]", json.dumps([alertmanager] if alertmanager else [])),
            ],
        )
        (folder / "prometheus.yml").write_text(configuration)
        (folder / "rules.yml").write_text(substitute((source / "rules.yml").read_text(), rule_changes))
        (folder / "alerts.yml").write_text(substitute((source / "alerts.yml").read_text(), alert_changes))
        port = free_port()
        self.start(
            "prometheus",
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            "--storage.tsdb.retention.time=60d",
            f"--web.listen-address=127.0.0.1:{port}",
            # Otherwise a resolved alert is sent again every minute.
            "--rules.alert.resend-delay=5s",
        )
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        until("Prometheus is ready", lambda: get(f"{prometheus.url}/-/ready"))
        return prometheus


class Prometheus:
    def __init__(self, url):
        self.url = url

    def api(self, path, **parameters):
        answer = json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}", 30))
        return answer["data"]

    def query(self, expression):
        """Instant vector as a list of (labels, value)."""
        result = self.api("query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def alerts(self, name):
        return [alert for alert in self.api("alerts")["alerts"] if alert["labels"]["alertname"] == name]


class Simulator:
    """The simulator of Microsoft Graph; may be stopped and started again on its port."""

    def __init__(self, stack, binary, tables=(), companies=(), teams=(), origin=None):
        self.stack, self.binary = stack, binary
        self.listen = "127.0.0.1:0"
        self.origin = [f"origin={origin}"] if origin else []
        kinds = {"table": tables, "company": companies, "team": teams}
        self.worlds = [f"{name}={kind}" for kind, names in kinds.items() for name in names]
        self.rows = {}
        self.process = None

    def start(self):
        self.process = self.stack.start(
            "simulator", self.binary, self.listen, *self.worlds, *self.origin, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for tenant in self.rows:
            self.tell(tenant)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.url = self.process.stdout.readline().strip()
        if not re.fullmatch(r"http://127\.0\.0\.1:\d+", self.url):
            raise Failed(f"the simulator did not start: {self.url!r}")
        self.listen = self.url.removeprefix("http://")

    def stop(self):
        self.stack.end(self.process)
        self.process = None

    def spend(self, tenant, rows):
        """From now on a tenant's report has these rows: (user, location, context, currency, calls, charge, seconds)."""
        self.rows[tenant] = [
            # The charge is a text, so that it keeps its digits.
            f'{{"userId":"{uuid.uuid5(uuid.NAMESPACE_URL, user)}","userPrincipalName":"{user}","userDisplayName":"{user}",'
            f'"usageLocation":"{location}","destinationContext":"{context}","currency":"{currency}",'
            f'"totalCalls":{calls},"totalCallCharge":{charge},"totalCallSeconds":{seconds}}}'
            for user, location, context, currency, calls, charge, seconds in rows
        ]
        if self.process:
            self.tell(tenant)
            if self.process.stdout.readline() != "set\n":
                raise Failed("the simulator did not take the rows")

    def tell(self, tenant):
        rows = ",".join(self.rows[tenant])
        self.process.stdin.write(f'{{"tenant":"{tenant}","rows":[{rows}]}}\n')
        self.process.stdin.flush()
