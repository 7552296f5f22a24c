"""A Microsoft Graph whose every answer is recognisable as a whole: all amounts of one report are the number of its version.

It has a token for every client, the dial-out report, and the log of calls with all its calls in the window that ends now. The
exporter may be made to wait for it, or be refused.
"""

import json
import re
import socket
import threading
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIALOUT, CALLS = "dialout", "call_log"
# Of each report, the families whose every sample is the version.
FAMILIES = {
    DIALOUT: ["teams_pstn_dialout_charge", "teams_pstn_dialout_calls", "teams_pstn_dialout_call_seconds"],
    CALLS: ["teams_pstn_call_log_charge", "teams_pstn_call_log_connection_charge", "teams_pstn_call_log_call_seconds"],
}


class Graph:
    """`rows` of each report; with `changing` users are others in every version, else the same."""

    def __init__(self, rows, changing=False):
        self.rows, self.open = rows, threading.Event()
        self.lock = threading.Lock()
        self.version = 0
        # Versions of each report in the order in which they were asked for.
        self.given = {DIALOUT: [], CALLS: []}
        self.pages = {DIALOUT: page(dialout_row, rows, changing), CALLS: page(calls_row, rows, changing)}
        self.open.set()
        graph = self

        class Handler(Answers):
            pass

        Handler.graph = graph
        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def hold(self):
        """Holds back every answer until `release`."""
        self.open.clear()

    def release(self):
        self.open.set()

    def close(self):
        """Stops listening."""
        self.server.shutdown()
        self.server.server_close()

    def next_page(self, report, window):
        """The next version of a report; no rows where the window is not the one that ends now."""
        now = datetime.now(timezone.utc)
        begin, end = (at(moment) for moment in window)
        if not begin <= now or (now - end).total_seconds() > 60:
            return b'{"value":[]}'
        with self.lock:
            self.version += 1
            version = self.version
            self.given[report].append(version)
        page = self.pages[report].replace(b"~", str(version).encode())
        return page.replace(b"^", begin.strftime("%Y-%m-%dT%H:%M:%SZ").encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Who was killed does not read on."""


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are one packet each, and neither waits for an acknowledgement.
    disable_nagle_algorithm = True

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b'{"token_type":"Bearer","expires_in":3599,"access_token":"not-a-secret"}')

    def do_GET(self):
        report = DIALOUT if "DialoutReport" in self.path else CALLS
        moments = re.findall(r"DateTime=([^,)]+)", self.path)
        self.graph.open.wait()
        if self.is_gone():
            self.close_connection = True
            return
        self.answer(self.graph.next_page(report, [moment.replace("%3A", ":") for moment in moments]))

    def is_gone(self):
        """True if the process that asked was killed meanwhile. On a busy machine, its request may still be waiting here."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def answer(self, body):
        self.graph.open.wait()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        """The exporter's log is enough."""


def at(moment):
    """A date or a time, as the exporter writes it."""
    time = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def page(row, rows, changing):
    # Ids without a pattern, so that what is kept of them cannot be compressed away.
    people = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(rows)]
    users = [f"{'~.' if changing else ''}{person}@contoso.com" for person in people]
    values = [row(person, user) for person, user in zip(people, users)]
    # The version is to be a number, so it is put in as a text here.
    return ('{"value":[' + ",".join(json.dumps(value).replace('"~"', "~") for value in values) + "]}").encode()


def dialout_row(person, user):
    return {
        "userId": person,
        "userPrincipalName": user,
        "userDisplayName": user,
        "usageLocation": "US",
        "destinationContext": "International",
        "currency": "USD",
        "totalCalls": "~",
        "totalCallCharge": "~",
        "totalCallSeconds": "~",
    }


def calls_row(person, user):
    return {
        "id": person,
        "userId": person,
        "userPrincipalName": user,
        "userDisplayName": user,
        "startDateTime": "^",
        "endDateTime": "^",
        "duration": "~",
        "charge": "~",
        "connectionCharge": "~",
        "currency": "USD",
        "callType": "user_out",
        "usageCountryCode": "US",
        "destinationContext": "International",
        "destinationName": "France",
        "licenseCapability": "MCOPSTN2",
    }
