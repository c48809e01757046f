"""The Kafka client: options for kafka-python and for Spark, connections, and reasons of failures.

Where the stream stands in a topic is in `streaming.kafka.lag`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from sightstream.config import Broker
from sightstream.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConfigError,
    TopicNotFoundError,
)
from sightstream.io import address
from sightstream.io.login import OAUTH, java_options, logs_in, python_options
from sightstream.io.tokens import tokens

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""Seconds that a broker may take to answer."""

TOKEN_SECONDS = 2.0
"""Seconds for which a token server that is away is asked again at a start."""

_CERTIFICATE_ALERT = re.compile("ALERT_\\w*(CERTIFICATE|UNKNOWN_CA)")  # RFC 8446, section 6.2

_Received: TypeAlias = "tuple[bytes, Exception | None]"


def client_options(broker: Broker) -> dict[str, Any]:
    """Return the options with which a client of kafka-python reaches the broker.

    Raises:
        ConfigError: what the login needs is missing, or a file of it is not as it must be.
    """
    return {"bootstrap_servers": broker.servers.split(","), **python_options(broker)}


def spark_options(broker: Broker) -> dict[str, str]:
    """Return the options with which Spark's Kafka source does what `client_options` does."""
    options = {"bootstrap.servers": broker.servers, **java_options(broker)}
    return {f"kafka.{key}": value for key, value in options.items()}


def connect(broker: Broker, timeout: float = ANSWER_SECONDS) -> KafkaAdminClient:
    """Open an administration client; wait `timeout` seconds for a broker that does not answer yet.

    Raises:
        BrokerUnavailableError: no broker or token server answers in time.
        BrokerRefusedError: one of them answers and refuses this client; raised at once.
        ConfigError: as `client_options` raises it.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    options = client_options(broker)
    _prepare_library()
    deadline, closed = time.monotonic() + timeout, False
    while True:
        # The client would try each server in turn, and does not report why none answers.
        try:
            reasons = address.unreachable(options["bootstrap_servers"], seconds=2)
        except ValueError as error:
            raise ConfigError(f"kafka_servers: {error}") from None
        fault: object = "; ".join(dict.fromkeys(reasons.values()))
        if not fault:
            _require_token(broker, deadline)
            with _failures() as failures:
                try:
                    return KafkaAdminClient(**options, bootstrap_timeout_ms=2000)
                except KafkaError as error:
                    fault = next(reversed([e for e in failures if _tells(e)]), error)
            # A broker that is shutting down closes the connection as well, but only once.
            closing = _closing(failures, broker)
            if cure := _refusal(failures, broker) or (closed and closing):
                raise BrokerRefusedError(f"Kafka at {broker.servers} {cure}")
            closed = bool(closing)
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {broker.servers} ({fault}); start it, or say "
                "where it is: SIGHTSTREAM_KAFKA_SERVERS=host:9092, or in sightstream.toml "
                'kafka_servers = "host:9092"'
            )
        time.sleep(0.2)


def require_topics(client: KafkaAdminClient, *topics: str) -> None:
    """Raise TopicNotFoundError where a topic does not exist, or is hidden from this user."""
    for topic in topics:
        if not exists(client, topic):
            raise TopicNotFoundError(
                f"Kafka has no topic {topic!r}, or does not show it to this user; create it with: "
                f"sightstream publish --create-topic --topic {topic}"
            )


def exists(client: KafkaAdminClient, topic: str) -> bool:
    """Return whether a topic exists and this user may see it."""
    from kafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError

    absent = (UnknownTopicOrPartitionError.errno, TopicAuthorizationFailedError.errno)
    return all(each["error_code"] not in absent for each in client.describe_topics([topic]))


@cache
def _prepare_library() -> None:
    """Quieten kafka-python's log, and keep the bytes in which a broker refuses a login."""
    # Failures are raised as our errors: without a handler, logging prints them to stderr as well.
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    try:
        from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

        for transport in (KafkaTCPTransport, KafkaSSLTransport):
            transport._sock_recv = _bytes_first(transport._sock_recv)
    except (ImportError, AttributeError) as error:
        log.info("kafka-python has other transports than expected, left as they are: %s", error)


def _bytes_first(receive: Callable[[Any], _Received]) -> Callable[[Any], _Received]:
    def received(transport: Any) -> _Received:
        data, end = receive(transport)
        return data, None if data else end  # the next call meets the end again

    return received


@contextmanager
def _failures() -> Iterator[list[BaseException]]:
    """Collect the errors that kafka-python only logs, while it retries."""
    found: list[BaseException] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.args, tuple):
                found.extend(each for each in record.args if isinstance(each, BaseException))

    logger, keeper = logging.getLogger("kafka.net.manager"), Keeper()
    logger.addHandler(keeper)
    try:
        yield found
    finally:
        logger.removeHandler(keeper)


def _tells(failure: BaseException) -> bool:
    """Return whether a failure is more than the end of kafka-python's own patience."""
    from kafka.errors import KafkaTimeoutError

    return not isinstance(failure, KafkaTimeoutError)


def _require_token(broker: Broker, deadline: float) -> None:
    """Fetch a token where the login takes one: kafka-python would not tell why there is none."""
    if not logs_in(broker) or broker.mechanism != OAUTH:
        return
    deadline = min(deadline, time.monotonic() + TOKEN_SECONDS)
    while True:
        try:
            tokens(broker).token()
        except BrokerRefusedError:
            raise
        except BrokerUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _refusal(failures: list[BaseException], broker: Broker) -> str:
    """Return what to correct where a broker answers and refuses this client; else empty."""
    from kafka.errors import (
        AuthorizationError,
        SaslAuthenticationFailedError,
        UnsupportedSaslMechanismError,
    )

    texts = " ".join(map(str, failures))
    if any(isinstance(e, (SaslAuthenticationFailedError, AuthorizationError)) for e in failures):
        return _refused_login(broker)
    if any(isinstance(e, UnsupportedSaslMechanismError) for e in failures):
        return f"takes no login by {broker.mechanism}; set kafka_sasl_mechanism"
    if "CERTIFICATE_VERIFY_FAILED" in texts:
        return (
            "shows a certificate that is not trusted, or is for another host; set kafka_ca to the "
            "PEM file of the authority that issued it"
        )
    if _CERTIFICATE_ALERT.search(texts):
        return _refused_certificate(broker)
    if "Handshake failed" in texts:
        return f"does not speak TLS; set kafka_security, which is {broker.security}"
    return ""


def _refused_login(broker: Broker) -> str:
    if broker.mechanism == OAUTH:
        tokens(broker).forget()  # as one that was signed with a key of yesterday
        return (
            f"does not accept the token that {broker.token_url} gives {broker.user!r}; set "
            "kafka_oauth_token_url to the server that it trusts, and kafka_oauth_scope to what it "
            "asks for"
        )
    return (
        f"does not accept the user {broker.user!r} with this password; set kafka_user "
        "and kafka_password (SIGHTSTREAM_KAFKA_PASSWORD)"
    )


def _refused_certificate(broker: Broker) -> str:
    if not broker.certificate:
        return "wants a certificate of this client; set kafka_ssl_certificate and kafka_ssl_key"
    return (
        f"refuses the certificate {broker.certificate}; set kafka_ssl_certificate to one that has "
        "not expired, of an authority that the broker trusts"
    )


def _closing(failures: list[BaseException], broker: Broker) -> str:
    """Return what to check where a broker closes the connection without a reason; else empty."""
    if "disconnected" not in " ".join(map(str, failures)):
        return ""
    login = f", kafka_sasl_mechanism ({broker.mechanism}), user and password"
    return (
        f"closes the connection; check kafka_security ({broker.security})"
        f"{login if logs_in(broker) else ''}"
    )
