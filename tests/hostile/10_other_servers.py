#!/usr/bin/python3
"""Other servers on the port: a web server, an ssh server, TLS with a certificate, silence. Each is told as what it is
within seconds, with a reason of its own, and never as an agent with another key."""

import os
import socket
import ssl
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))

from agents import ensure, main, scenario  # noqa: E402

SECONDS = 3.5
HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"


class Server:
    """Says greeting at once, and answer to the first bytes it gets; keeps its connections open."""

    def __init__(self, greeting=b"", answer=b"", context=None):
        self.greeting, self.answer, self.context = greeting, answer, context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            try:
                if self.context:
                    self.connections.append(self.context.wrap_socket(connection, server_side=True))
                connection.sendall(self.greeting)
                if self.answer and connection.recv(65536):
                    connection.sendall(self.answer)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.listener.close()
        for connection in self.connections:
            connection.close()


def certificate(folder):
    """A TLS server's context with a certificate that it made itself."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=web", "-keyout", f"{folder}/web.key", "-out", f"{folder}/web.crt"], check=True,
                   capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/web.crt", f"{folder}/web.key")
    return context


def require_told(scene, server, *options):
    source = scene.path("source")
    if not os.path.exists(source):
        scene.noise("source", 1000)
    run = scene.run("send", "-w", server.address, "--json", *options, source).expect(11)
    line = run.hosts[server.address]
    ensure(line["state"] == "unreachable" and line["reason"] == "notagent", str(run))
    ensure(line["text"].startswith("not a treecast agent") and "same key" not in line["text"], str(run))
    run.within(SECONDS)


@scenario
def with_a_key(scene):
    """With a key: HTTP, ssh, HTTPS and silence are no agents"""
    key = scene.key()
    with Server(answer=HTTP) as web, Server(greeting=SSH) as ssh, Server() as silent, \
            Server(context=certificate(scene.folder)) as secure:
        for server in (web, ssh, silent, secure):
            require_told(scene, server, "-k", key)


@scenario
def without_a_key(scene):
    """Without one: HTTP, ssh and silence are no agents"""
    with Server(answer=HTTP) as web, Server(greeting=SSH) as ssh, Server() as silent:
        for server in (web, ssh, silent):
            require_told(scene, server)


if __name__ == "__main__":
    main()
