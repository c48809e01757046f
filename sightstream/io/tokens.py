"""Access tokens of OAuth 2.0 by client credentials (RFC 6749, section 4.4), renewed in time."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import re
import ssl
import time
from dataclasses import dataclass, field, replace
from functools import cache
from math import inf
from pathlib import Path
from threading import Lock
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from sightstream.config import Broker
from sightstream.errors import BrokerRefusedError, BrokerUnavailableError, ConfigError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""Seconds that the token server may take to connect, and to send each part of its answer."""

FRESH = 0.8
"""Share of a token's life after which another is fetched, as Kafka's Java client has it."""

LIFE_SECONDS = 60.0
"""Life of a token where the server does not tell it, which RFC 6749 allows."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750; what else it was would end up in a login
_ANSWER_BYTES = 2**20


@dataclass(frozen=True)
class _Token:
    text: str = field(default="", repr=False)
    renew: float = 0.0  # these two in seconds of time.monotonic
    end: float = 0.0


class Tokens:
    """The tokens of a client; any thread may ask for one."""

    def __init__(self, broker: Broker) -> None:
        """Ask for nothing yet.

        Raises:
            ConfigError: there is no file kafka_oauth_ca, or it is no certificate.
        """
        self._url, self._client, self._scope = broker.token_url, broker.user, broker.scope
        self._secret = broker.password
        self._opener = build_opener(HTTPSHandler(context=_trusted(broker.token_ca)), _Stay())
        self._lock = Lock()
        self._token = _Token()

    def token(self) -> str:
        """Return a token that is valid; raises as `fetch` does where there is none."""
        return self.lasting()[0]

    def lasting(self) -> tuple[str, float]:
        """Return the same, and for how many seconds it is valid."""
        with self._lock:
            now = time.monotonic()
            if now >= self._token.renew:
                try:
                    self._token = self.fetch()
                except BrokerUnavailableError as error:
                    if now >= self._token.end:
                        raise
                    log.warning("the token is used to its end: %s", error)
                    self._token = replace(self._token, renew=min(now + 1, self._token.end))
            return self._token.text, max(0.0, self._token.end - now)

    def forget(self) -> None:
        """Fetch another token next time, since a broker does not accept this one."""
        self._token = _Token()

    def fetch(self) -> _Token:
        """Return a new token.

        Raises:
            BrokerRefusedError: the token server answers, and gives this client no token.
            BrokerUnavailableError: it does not answer.
        """
        wanted = {"grant_type": "client_credentials"}
        if self._scope:
            wanted["scope"] = self._scope
        login = base64.b64encode(f"{self._client}:{self._secret}".encode()).decode()
        request = Request(  # noqa: S310 - the setting is a url of http or https
            self._url, urlencode(wanted).encode(),
            {"Authorization": f"Basic {login}", "Accept": "application/json"},
        )  # fmt: skip
        begin = time.monotonic()
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
                return _read(answer.read(_ANSWER_BYTES), begin)
        except HTTPError as error:
            raise self._refused(error) from None
        except _NoTokenError:
            raise BrokerRefusedError(
                f"{self._url} answers without a token; set kafka_oauth_token_url to the token "
                "endpoint of the OAuth server"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from None

    def _refused(self, error: HTTPError) -> BrokerUnavailableError:
        with error:
            why = f"{error.code} {_reason(error)}".strip()
        if error.code == http.client.TOO_MANY_REQUESTS or error.code >= 500:
            return self._away(f"it answers {why}")
        if error.code in {400, 401, 403}:
            return BrokerRefusedError(
                f"the token server {self._url} refuses the client {self._client!r} ({why}); set "
                "kafka_user and kafka_password (SIGHTSTREAM_KAFKA_PASSWORD) to its id and secret, "
                "and kafka_oauth_scope to what it may ask for"
            )
        return BrokerRefusedError(
            f"{self._url} gives no token ({why}); set kafka_oauth_token_url to the token endpoint "
            "of the OAuth server"
        )

    def _failed(self, error: Exception) -> BrokerUnavailableError:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return BrokerRefusedError(
                f"the token server {self._url} shows a certificate that is not trusted, or is for "
                "another host; set kafka_oauth_ca to the PEM file of the authority that issued it"
            )
        if isinstance(reason, ssl.SSLError):
            return BrokerRefusedError(
                f"the token server {self._url} does not speak TLS; correct kafka_oauth_token_url"
            )
        return self._away(str(reason) or type(reason).__name__)

    def _away(self, why: str) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"the token server {self._url} does not answer ({why}); start it, or set "
            "kafka_oauth_token_url to where it is"
        )


@cache
def tokens(broker: Broker) -> Tokens:
    """Return the tokens with which this process logs in to a broker; raises as `Tokens` does."""
    return Tokens(broker)


class _Stay(HTTPRedirectHandler):
    """Follows no redirection: the secret would go with it."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _NoTokenError(ValueError):
    pass


def _trusted(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(
            f"kafka_oauth_ca: {authority} is no PEM file of a certificate ({error.strerror})"
        ) from None


def _read(answer: bytes, begin: float) -> _Token:
    try:
        found = json.loads(answer)
        text, life = found["access_token"], float(found.get("expires_in") or LIFE_SECONDS)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _NoTokenError from None
    if not isinstance(text, str) or not _TOKEN.fullmatch(text) or not 0 < life < inf:
        raise _NoTokenError
    return _Token(text, begin + FRESH * life, begin + life)


def _reason(answer: IO[bytes]) -> str:
    """Return the code of an error (RFC 6749, section 5.2); empty where there is none."""
    try:
        code = json.loads(answer.read(_ANSWER_BYTES))["error"]
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError, RecursionError):
        return ""
    return code if isinstance(code, str) and re.fullmatch(r"\w{1,60}", code, re.ASCII) else ""
