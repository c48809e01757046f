"""An object store with faults: a proxy before a real server, between it and the stream."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

SLOW = 3.0
"""Seconds by which each answer of a slow store is late."""

MODES = ("good", "refuses", "slow", "forgets")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has gone away is no error here."""


class Store:
    """Passes requests on.

    Attributes:
        mode: good; refuses, with 503; slow; or forgets: it writes an object, and ends the
            connection instead of answering, so that the client does not know whether it did.
        faulty: whether a request, of a method and a path, gets the fault.
    """

    def __init__(self, server: str) -> None:
        self.mode = "good"
        self.faulty: Callable[[str, str], bool] = lambda method, path: True
        self.faults = 0
        self._server = urlsplit(server).netloc
        self._proxy = _Server(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        Thread(target=self._proxy.serve_forever, name="store", daemon=True).start()

    def end(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                store._pass(self)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = do  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.mode if self.faulty(request.command, request.path) else "good"
        if fault == "forgets" and request.command not in {"PUT", "POST"}:
            fault = "good"
        self.faults += fault != "good"
        if fault == "refuses":
            request.close_connection = True
            request.send_response(503, "Slow Down")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if fault == "slow":
            time.sleep(SLOW)
        server = http.client.HTTPConnection(self._server, timeout=60)
        try:
            # Its bytes as they are; moto looks at no signature.
            server.request(request.command, request.path, body, dict(request.headers))
            answer = server.getresponse()
            content = answer.read()
            if fault == "forgets":
                request.close_connection = True
                return
            request.send_response(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                    request.send_header(name, value)
            if not answer.getheader("Content-Length"):
                request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(content)
        finally:
            server.close()
