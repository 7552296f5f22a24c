"""Played by `run` in a machine with systemd as its first process: the life of the package, from an installation to a purge.

It is installed at an earlier version, sandboxed, watched, killed, reloaded, activated by its socket, restarted and upgraded
without Graph, followed by Debian's Prometheus and Alertmanager to a mail, and purged. The simulator is Graph.
"""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "alerting")]
import mail
from stack import CONTOSO, ROOT, Failed, Simulator, Stack, get, until

NAME = "teams-pstn-exporter"
UNIT = f"{NAME}.service"
SOCKET = f"{NAME}.socket"
ADDRESS = "localhost:10053"
CONFIG = Path(f"/etc/{NAME}/config.yml")
DEFAULT = Path(f"/etc/default/{NAME}")
CREDENTIALS = Path(f"/run/credentials/{UNIT}")
# Only for this start of the machine, and gone before the purge.
DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/test.conf")
# The processor is emulated, and others may be at work on the one that does it.
PATIENCE = 240
# The exposure by systemd-analyze, from 0 to 10; deploy/systemd/README.md says what is left.
EXPOSURE_MAX = 1.2
# The socket unit's own limit, and one start more that is under way.
STARTS_MAX = 6
BUDGETS = "budgets: [{name: all, currency: USD, amount: 200}]"
# A key of the user labels is a secret too: a reload must be able to read it.
LABELS = f"labels: {{user: pseudonym, pseudonym_key_file: {CREDENTIALS}/secret_key}}"
ROWS = [
    ("ruwini.perera@contoso.com", "US", "International", "USD", 12, "60.25", 723),
    ("megan.bowen@contoso.com", "US", "Domestic", "USD", 3, "9.74", 180),
]


def main():
    with Stack() as stack:
        simulator = Simulator(stack, ROOT / "target/debug/examples/alerting-simulator", tables=[CONTOSO])
        simulator.spend(CONTOSO, ROWS)
        simulator.start()
        part(installed)
        text = part(configured, stack, simulator)
        part(sandboxed)
        part(watched)
        part(killed)
        part(reloaded, text)
        part(socket_activated, text)
        part(restarted_without_graph, simulator)
        part(upgraded_without_graph, simulator)
        part(mail.about_a_budget, simulator)
        part(purged, stack)


def installed():
    run("dpkg", "--install", ROOT / "previous.deb")
    check("the service is enabled and waits for its configuration", (ctl("is-enabled", UNIT), show("ActiveState")) == ("enabled", "inactive"))
    check("the socket is not enabled", ctl("is-enabled", SOCKET) == "disabled")


def configured(stack, simulator):
    secrets = CONFIG.parent / "secrets"
    for name, secret in (("contoso", "not-a-secret\n"), ("key", "0123456789abcdef0123456789abcdef")):
        (secrets / name).touch(0o600)
        (secrets / name).write_text(secret)
    path = stack.config("config", simulator.url, [("contoso", CONTOSO)], f"{LABELS}\n{BUDGETS}", interval="5s", timeout="10s")
    text = path.read_text().replace("client_secret_file: secret", f"client_secret_file: {CREDENTIALS}/secret_contoso")
    CONFIG.write_text(text)
    ctl("restart", UNIT)
    ready()
    check("it serves what the simulator has", sum(map(float, re.findall(r"^teams_pstn_dialout_charge\{.*\} (\S+)$", get(f"http://{ADDRESS}/metrics"), re.M))) == 69.99)
    run(NAME, "check", f"--config.file={CONFIG}")
    check("`check` finds nothing wrong, as root and while the service runs", True)
    return text


def sandboxed():
    pid = main_pid()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {key: value.split() for key, value in (line.split(":", 1) for line in lines)}
    wanted = {"NoNewPrivs": ["1"], "Seccomp": ["2"], "CapEff": ["0" * 16], "CapBnd": ["0" * 16], "CapAmb": ["0" * 16]}
    check("no privileges, and a filter of system calls", all(status[key] == value for key, value in wanted.items()), status)
    user = int(status["Uid"][0])
    check("a user that exists only while it runs", 61184 <= user <= 65519 and set(status["Uid"]) == {str(user)}, user)
    spaces = [kind for kind in ("mnt", "user", "ipc") if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")]
    check("its mounts, users and IPC are its own", not spaces, *spaces)
    check("no core dump", re.search(r"^Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text(), re.M))

    # As root, but in the service's view of the file system.
    view = ["nsenter", f"--target={pid}", "--mount"]
    places = ["/etc", "/usr", "/boot", "/var", "/root", "/home", "/sys", f"/etc/{NAME}", "/run/credentials"]
    written = [place for place in places if not subprocess.run([*view, "touch", f"{place}/test"], capture_output=True).returncode]
    check("it can write nowhere", not written, *written)
    devices = run(*view, "ls", "/dev").split()
    check("it sees no disk", "null" in devices and not [name for name in devices if name.startswith("vd")], devices)
    check("it sees no home", run(*view, "ls", "--almost-all", "/root", "/home").split() == ["/home:", "/root:"])
    check("it has its secrets", run(*view, "cat", CREDENTIALS / "secret_contoso") == "not-a-secret\n")

    folder = Path("/var/lib/private") / NAME
    [path] = until("a state file is written", lambda: list(folder.glob("*.state")), PATIENCE)
    found = [(oct(stat.S_IMODE(it.stat().st_mode)), it.stat().st_uid) for it in (folder, path)]
    check("state is for its user alone", found == [("0o700", user), ("0o600", user)], found)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", run("systemd-analyze", "security", "--no-pager", UNIT))
    check(f"systemd rates its exposure {exposure[1]}", float(exposure[1]) <= EXPOSURE_MAX)


def watched():
    drop_in("[Service]\nWatchdogSec=20\nTimeoutStopSec=3\n")
    ctl("restart", UNIT)
    ready()
    os.kill(main_pid(), signal.SIGSTOP)
    begun = time.monotonic()
    until("the watchdog restarts it", lambda: show("NRestarts") == "1" and show("ActiveState") == "active", PATIENCE)
    ready()
    check("it was the watchdog", "Watchdog timeout" in journal())
    print(f"a stopped process was replaced in {time.monotonic() - begun:.0f} s", flush=True)
    drop_in(None)


def killed():
    pid = main_pid()
    os.kill(pid, signal.SIGKILL)
    until("it is restarted", lambda: main_pid() not in (0, pid) and show("ActiveState") == "active", PATIENCE)
    ready()


def reloaded(text):
    pid = main_pid()
    CONFIG.write_text(text.replace(BUDGETS, BUDGETS.replace("200", "300")))
    ctl("reload", UNIT)
    until("the budget is another", lambda: re.search(r"^teams_pstn_budget_amount\{.*\} 300$", get(f"http://{ADDRESS}/metrics"), re.M), PATIENCE)
    for mistake, message in (("bad: 1\n", r"config\.yml:\d+: bad: unknown key"), ("tenants: [\n", r"config\.yml:\d+")):
        since = cursor()
        CONFIG.write_text(text + mistake)
        done = subprocess.run(["systemctl", "reload", UNIT], capture_output=True, text=True)
        check(f"a reload with {mistake.strip()!r} fails", done.returncode != 0 and "failed" in done.stderr, done)
        check("the journal has the mistake", re.search(message, journal(since)), journal(since))
        check("the service goes on with what it has", (main_pid(), show("ActiveState")) == (pid, "active") and "} 300\n" in get(f"http://{ADDRESS}/metrics"))
    CONFIG.write_text(text)
    ctl("reload", UNIT)
    until("the budget is as before", lambda: re.search(r"^teams_pstn_budget_amount\{.*\} 200$", get(f"http://{ADDRESS}/metrics"), re.M), PATIENCE)


def socket_activated(text):
    arguments = DEFAULT.read_text()
    DEFAULT.write_text(arguments.replace('yml"', 'yml --web.systemd-socket"'))
    ctl("stop", UNIT)
    ctl("enable", "--now", SOCKET)
    check("systemd listens, the service does not run", (show("ActiveState", SOCKET), show("ActiveState")) == ("active", "inactive"))
    get(f"http://{ADDRESS}/-/healthy", PATIENCE)
    check("the first connection starts the service and is answered by it", show("ActiveState") == "active")

    ctl("stop", UNIT)
    since = cursor()
    CONFIG.write_text(text + "bad: 1\n")
    threading.Thread(target=ask_in_vain, daemon=True).start()
    until("systemd gives up", lambda: (show("ActiveState", SOCKET), show("ActiveState")) == ("failed", "failed"), PATIENCE)
    starts = journal(since).count(f"Starting {UNIT}")
    check(f"with a bad configuration, systemd gives up after {starts} starts", 1 <= starts <= STARTS_MAX, journal(since))
    CONFIG.write_text(text)
    ctl("restart", SOCKET, UNIT)
    ready()
    check("with a good one it is started again", show("ActiveState", SOCKET) == "active")

    DEFAULT.write_text(arguments)
    ctl("disable", "--now", SOCKET)
    ctl("restart", UNIT)
    ready()


def ask_in_vain():
    try:
        get(f"http://{ADDRESS}/-/healthy", PATIENCE)
    except OSError:
        pass


def restarted_without_graph(simulator):
    until("the report is up to date", lambda: "teams_pstn_report_up{" in get(f"http://{ADDRESS}/metrics") and kept()[1] == ["1"], PATIENCE)
    simulator.stop()
    until("Graph is missed", lambda: kept()[1] == ["0"], PATIENCE)
    known = kept()
    ctl("restart", UNIT)
    ready()
    until("the first poll fails", lambda: kept()[1] == ["0"], PATIENCE)
    check("a restart without Graph changes no figure", kept() == known and len(known[0]) > 4, known, kept())


def upgraded_without_graph(simulator):
    known, pid, configuration = kept(), main_pid(), CONFIG.read_text()
    DEFAULT.write_text(DEFAULT.read_text() + "# edited\n")
    run("dpkg", "--install", ROOT / "package.deb")
    version = run("dpkg-query", "--show", "--showformat=${Version}", NAME)
    check(f"it is upgraded to {version}", "previous" not in version)
    ready()
    check("the new program runs", main_pid() != pid and not os.readlink(f"/proc/{main_pid()}/exe").endswith("(deleted)"))
    check("what was edited is kept", DEFAULT.read_text().endswith("# edited\n") and CONFIG.read_text() == configuration)
    until("the first poll fails", lambda: kept()[1] == ["0"], PATIENCE)
    check("an upgrade without Graph changes no figure", kept() == known, known, kept())
    simulator.start()
    until("Graph is asked again", lambda: kept()[1] == ["1"], PATIENCE)


def purged(stack):
    run("dpkg", "--purge", NAME)
    found = run("find", "/", "/run", "-xdev", "-name", f"*{NAME}*").splitlines()
    left = [path for path in found if not path.startswith(("/play/", str(stack.work)))]
    check("a purge leaves no file", not left, *left)
    check("nor a process", not subprocess.run(["pgrep", "--exact", NAME[:15]], capture_output=True, text=True).stdout)
    # systemd forgets a unit without a file when it is asked again.
    run("systemctl", "daemon-reload")
    units = run("systemctl", "list-units", "--all", "--no-legend", f"{NAME}*")
    check("nor a unit", not units, units)


def kept():
    """What a restart must not change, and whether Graph answers."""
    text = get(f"http://{ADDRESS}/metrics")
    families = "dialout_charge|dialout_calls|budget_spent|billing_period_start_timestamp_seconds|report_last_success_timestamp_seconds"
    figures = sorted(re.findall(rf"^teams_pstn_(?:{families})\{{.*$", text, re.M))
    return figures, re.findall(r"^teams_pstn_report_up\{.*\} (\d)$", text, re.M)


def ready():
    until("it is ready", lambda: get(f"http://{ADDRESS}/-/ready"), PATIENCE)


def drop_in(text):
    """Settings of the unit for this test alone."""
    if text:
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text(text)
    else:
        DROP_IN.unlink()
        DROP_IN.parent.rmdir()
    run("systemctl", "daemon-reload")


def show(name, unit=UNIT):
    return run("systemctl", "show", f"--property={name}", "--value", unit).strip()


def main_pid():
    return int(show("MainPID"))


def ctl(*words):
    """systemctl, whose answers about a unit are codes too."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    if done.returncode and not words[0].startswith("is-"):
        raise Failed(f"systemctl {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}\n{journal()}")
    return done.stdout.strip()


def cursor():
    """The place of the journal's last entry."""
    return run("journalctl", "--no-pager", "--lines=0", "--show-cursor").rpartition("cursor: ")[2].strip()


def journal(since=None):
    """What the unit said, and what systemd said about it."""
    run("journalctl", "--sync")
    return run("journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}", *([f"--after-cursor={since}"] if since else ["--lines=20"]))


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def part(play, *arguments):
    begun = time.monotonic()
    print(f"-- {play.__name__.replace('_', ' ')}", flush=True)
    result = play(*arguments)
    print(f"   {time.monotonic() - begun:.0f} s", flush=True)
    return result


def check(what, good, *details):
    if not good:
        raise Failed(what + "".join(f"\n  {detail}" for detail in details))
    print(f"ok: {what}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        print(run("journalctl", "--no-pager", "--output=cat", "--lines=30"))
        sys.exit(f"FAILED  {failure}")
