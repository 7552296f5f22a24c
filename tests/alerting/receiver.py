"""A chat webhook and a mail server that remember what they were sent, in one list, in the order of its coming."""

import base64
import email
import email.policy
import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    def __init__(self, mail_port=0, tls=None, password=None):
        """A mail server without TLS and without a password, unless a context or a password is given."""
        self.messages = []
        self._lock = threading.Lock()
        chat = ThreadingHTTPServer(("127.0.0.1", 0), type("Chat", (_Chat,), {"take": self._take}))
        mail = _MailServer(("127.0.0.1", mail_port), type("Mail", (_Mail,), {"take": self._take, "tls": tls, "password": password}))
        for server in (chat, mail):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.chat_url = f"http://127.0.0.1:{chat.server_address[1]}/hook"
        self.mail_address = f"127.0.0.1:{mail.server_address[1]}"

    def _take(self, message):
        with self._lock:
            self.messages.append(message)

    def find(self, to, *texts):
        """Messages to a receiver (chat, or a mail address) whose title begins with the first text and that have the others."""
        with self._lock:
            messages = list(self.messages)
        return [
            message
            for message in messages
            if message["to"] == to
            and message["title"].startswith(texts[0])
            and all(text in message["title"] + message["text"] for text in texts[1:])
        ]


class _Chat(BaseHTTPRequestHandler):
    def do_POST(self):
        hook = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for attachment in hook["attachments"]:
            self.take({"to": "chat", "title": attachment["title"], "text": attachment["text"]})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class _MailServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


class _Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as Alertmanager speaks."""

    def handle(self):
        recipients = []
        self.say("220 loopback")
        while line := self.rfile.readline():
            word, _, rest = line.decode().strip().partition(" ")
            match word.upper():
                case "EHLO" if self.tls:
                    self.say("250-loopback\r\n250 STARTTLS")
                case "EHLO" if self.password:
                    self.say("250-loopback\r\n250 AUTH PLAIN")
                case "STARTTLS":
                    self.say("220 go on")
                    self.encrypt()
                case "AUTH":
                    given = base64.b64decode(rest.split()[1]).split(b"\0")[2].decode()
                    self.say("235 ok" if given == self.password else f"535 {given!r} is not the password")
                    if given == self.password:
                        self.password = None
                case "MAIL" if self.tls or self.password:
                    self.say("530 neither without TLS nor without the password")
                case "RCPT":
                    recipients.append(rest.partition("<")[2].partition(">")[0])
                    self.say("250 ok")
                case "DATA":
                    self.say("354 go on")
                    self.deliver(recipients)
                    recipients = []
                    self.say("250 ok")
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("250 ok")

    def encrypt(self):
        self.request = self.tls.wrap_socket(self.request, server_side=True)
        self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
        self.tls = None

    def deliver(self, recipients):
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        text = message.get_body(("plain",)).get_content()
        html = message.get_body(("html",)).get_content()
        for recipient in recipients:
            self.take({"to": recipient, "title": str(message["Subject"]), "text": text, "html": html})

    def say(self, what):
        self.wfile.write(what.encode() + b"\r\n")
