"""librdkafka, a client in C, for those who read many messages; `sightstream.io.kafka` has the rest.

A login travels to other machines with what its files hold; the authorities must be there as well.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream.config import Broker
from sightstream.io.login import OAUTH, logs_in, python_options
from sightstream.io.tokens import tokens

if TYPE_CHECKING:
    from confluent_kafka import Consumer


@dataclass(frozen=True)
class Login:
    """How to reach a broker from any machine; picklable, and shown without secrets."""

    broker: Broker
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)


def login(broker: Broker) -> Login:
    """Return the login of this machine's settings.

    Raises:
        ConfigError: as `login.python_options` raises it.
        ModuleNotFoundError: the extra `kafka` is not installed.
    """
    import confluent_kafka  # noqa: F401 - a missing one is told before anything is started

    options = python_options(broker)
    files = [Path(options[each]).read_bytes() for each in _FILES if each in options]
    ca, token_ca = (path and path.absolute() for path in (broker.ca, broker.token_ca))
    alone = replace(broker, certificate=None, key=None, ca=ca, token_ca=token_ca)
    return Login(alone, *files)


_FILES = ("ssl_certfile", "ssl_keyfile")


def consumer(login: Login, options: dict[str, Any]) -> Consumer:
    """Open a consumer with further options of librdkafka; no answer is waited for.

    Raises:
        ConfigError: the file of an authority is not on this machine.
    """
    from confluent_kafka import Consumer

    # The files, in a folder of this user alone, are read once, when the client is made.
    with tempfile.TemporaryDirectory() as folder:
        return Consumer({**_options(login, Path(folder)), **options})


def _options(login: Login, folder: Path) -> dict[str, Any]:
    broker = login.broker
    found = python_options(broker)
    options = {
        "bootstrap.servers": broker.servers,
        "security.protocol": broker.security,
        # Only the group's name is told; offsets are Spark's.
        "group.id": "sightstream",
        "enable.auto.commit": False,
        # Without it, the screen gets each failed try to connect.
        "log_level": 0,
    }
    if "ssl_cafile" in found:
        options["ssl.ca.location"] = found["ssl_cafile"]
    if login.certificate:
        options |= {
            "ssl.certificate.location": _written(folder / "certificate", login.certificate),
            "ssl.key.location": _written(folder / "key", login.key),
        }
        if broker.key_password:
            options["ssl.key.password"] = broker.key_password
    if not logs_in(broker):
        return options
    options["sasl.mechanism"] = broker.mechanism
    if broker.mechanism == OAUTH:
        return options | {"oauth_cb": lambda _: _token(broker)}
    return options | {"sasl.username": broker.user, "sasl.password": broker.password}


def _written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def _token(broker: Broker) -> tuple[str, float]:
    """Return a token, and its end in seconds since the epoch."""
    text, seconds = tokens(broker).lasting()
    return text, time.time() + seconds
