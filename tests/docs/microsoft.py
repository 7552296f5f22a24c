"""Microsoft as the exporter sees it, and the mail server of the examples: their names, behind TLS, in namespaces of our own."""

import fcntl
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading

NAMES = ["login.microsoftonline.com", "graph.microsoft.com", "mail.example.com"]


def loopback():
    """Switches on the loopback interface of the new network."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14s", b"lo", 0, b"")
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock, get_flags, request), 16)
        fcntl.ioctl(sock, set_flags, struct.pack("16sh14s", b"lo", flags | up, b""))


def private_etc(work):
    """A copy of /etc in its place, with the names at this machine."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    copy = work / "etc"
    shutil.copytree("/etc", copy, symlinks=True, ignore_dangling_symlinks=True, copy_function=copied)
    (copy / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + "".join(f"127.0.0.1 {name}\n" for name in NAMES))
    subprocess.run(["mount", "--bind", copy, "/etc"], check=True)


def copied(source, target):
    """Copies a file with its owner: services read files of their group."""
    shutil.copy2(source, target)
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    return target


def certificate(work):
    """The file of the authority that clients must trust, and the TLS context of a server under all of the names."""
    alternatives = "subjectAltName=" + ",".join(f"DNS:{name}" for name in NAMES)
    authority, key = work / "authority.crt", work / "authority.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", alternatives]
    # An authority and a certificate of its own, because the exporter takes no authority as a server.
    subprocess.run([*command[:9], "/CN=authority", "-keyout", key, "-out", authority], check=True, capture_output=True)
    server, server_key = work / "server.crt", work / "server.key"
    own = ["-addext", alternatives, "-addext", "basicConstraints=critical,CA:FALSE", "-CA", authority, "-CAkey", key]
    subprocess.run([*command[:9], "/CN=server", *own, "-keyout", server_key, "-out", server], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server, server_key)
    return authority, context


def serve(context, simulator):
    """Ends TLS for the simulator at port 443."""
    listener = socket.create_server(("127.0.0.1", 443))
    host, port = simulator.split(":")
    threading.Thread(target=accept, args=(listener, context, (host, int(port))), daemon=True).start()


def accept(listener, context, simulator):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=connection, args=(client, context, simulator), daemon=True).start()


def connection(client, context, simulator):
    try:
        with context.wrap_socket(client, server_side=True) as outside, socket.create_connection(simulator) as inside:
            threading.Thread(target=pump, args=(inside, outside), daemon=True).start()
            pump(outside, inside)
    except (OSError, ssl.SSLError):
        pass


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except (OSError, ssl.SSLError):
        pass
