"""An OAuth server of the tests: client credentials become signed tokens (JWT, RS256)."""

from __future__ import annotations

import base64
import json
import ssl
import time
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT, SECRET = "stream", 'se"cret \\ and = , ; ü'
"""The only client; a secret that needs every care in quoting."""

AUDIENCE = "kafka"


class TokenServer(ThreadingHTTPServer):
    """Serves /token and /jwks on loopback.

    Attributes:
        life: seconds that a token is valid.
        status: of the answer in a token's place; 0 gives tokens.
        given: what clients asked for and got a token, in their order.
    """

    daemon_threads = True

    def __init__(self, port=0, tls: ssl.SSLContext | None = None):
        super().__init__(("127.0.0.1", port), _Handler)
        self.key = _key()
        self.life, self.status, self.given = 3600, 0, []
        self.answer: bytes | None = None  # in place of a token's
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://localhost:{self.server_port}"

    def token(self, audience=AUDIENCE) -> str:
        now = int(time.time())
        claims = {
            "iss": "tests", "sub": CLIENT, "aud": audience, "iat": now, "exp": now + self.life,
            "scope": "images",
        }  # fmt: skip
        head = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        signed = ".".join(_text(json.dumps(each).encode()) for each in (head, claims))
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_text(signature)}"

    def keys(self) -> dict:
        numbers = self.key.public_key().public_numbers()
        n, e = (each.to_bytes((each.bit_length() + 7) // 8) for each in (numbers.n, numbers.e))
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": _text(n), "e": _text(e)}
        return {"keys": [key]}


@contextmanager
def serving(**how):
    """A token server, until the block ends."""
    with TokenServer(**how) as server:
        Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self):
        self._say(200, self.server.keys())

    def do_POST(self):
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        login = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if self.server.status:
            self._say(self.server.status, {"error": "temporarily_unavailable"})
        elif self.headers["Authorization"] != f"Basic {login}":
            self._say(401, {"error": "invalid_client"})
        elif self.server.answer is not None:
            self._send(200, self.server.answer)
        else:
            self.server.given.append(asked)
            self._say(200, {"access_token": self.server.token(), "expires_in": self.server.life})

    def _say(self, status, answer):
        self._send(status, json.dumps(answer).encode())

    def _send(self, status, body):
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
