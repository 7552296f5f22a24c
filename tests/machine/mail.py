"""The way from the installed package to a mail: Debian's Prometheus and Alertmanager as services, with the files of the package,
as docs/alerting.md has it; and a mail server that keeps what it is sent.

What is other than there: scraped and evaluated every 5 s, mails are grouped for 1 s, and the mail server has no TLS.
"""

import subprocess
from pathlib import Path

from receiver import Receiver
from stack import CONTOSO, Failed, get, substitute, until

SHARED = Path("/usr/share/teams-pstn-exporter")
ETC = Path("/etc/prometheus")
PATIENCE = 300
PASSWORD = "not-a-secret"
# Steps 3 and 4 of docs/alerting.md.
COMMANDS = f"""
set -e
cp -r {SHARED}/prometheus/*.yml {SHARED}/alertmanager/* /etc/prometheus/
cp /etc/prometheus/alertmanager-mail.yml /etc/prometheus/alertmanager.yml
sed -i 's/^ARGS=.*/ARGS="--web.listen-address=127.0.0.1:9090"/' /etc/default/prometheus
sed -i 's/^ARGS=.*/ARGS="--web.listen-address=127.0.0.1:9093 --cluster.listen-address="/' /etc/default/prometheus-alertmanager
tr -d '\\n' | install -D -m 0640 -g prometheus /dev/stdin /etc/prometheus/secrets/smtp-password
"""
MAIL = "telephony@example.com"
ROWS = [
    ("ruwini.perera@contoso.com", "US", "International", "USD", 40, "230.25", 2723),
    ("megan.bowen@contoso.com", "US", "Domestic", "USD", 3, "9.77", 180),
]


def about_a_budget(simulator):
    receiver = Receiver(password=PASSWORD)
    subprocess.run(["sh", "-c", COMMANDS], input=f"{PASSWORD}\n", text=True, check=True)
    edit(ETC / "prometheus.yml", [("interval: 1m", "interval: 5s")])
    edit(
        ETC / "alertmanager.yml",
        [
            ("smtp_smarthost: mail.example.com:587", f"smtp_smarthost: {receiver.mail_address}\n  smtp_require_tls: false"),
            ("  repeat_interval: 1d\n", "  repeat_interval: 1d\n  group_wait: 1s\n"),
        ],
    )
    run("promtool", "check", "config", ETC / "prometheus.yml")
    run("amtool", "check-config", ETC / "alertmanager.yml")
    run("systemctl", "restart", "prometheus", "prometheus-alertmanager")
    for name, port in (("Prometheus", 9090), ("Alertmanager", 9093)):
        until(f"{name} is ready", lambda: get(f"http://localhost:{port}/-/ready"), PATIENCE)
        print(f"ok: {name} is ready", flush=True)
    simulator.spend(CONTOSO, ROWS)
    title = "[Critical] Budget all of contoso: 120 % spent (240.02 USD) and 1 more"
    [message] = until("the mail arrives", lambda: receiver.find(MAIL, title), PATIENCE)
    print(f"ok: mail to {MAIL}: {message['title']}", flush=True)
    run("systemctl", "stop", "prometheus", "prometheus-alertmanager")


def edit(path, changes):
    path.write_text(substitute(path.read_text(), changes))


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
