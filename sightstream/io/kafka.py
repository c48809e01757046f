"""The Kafka client: options for kafka-python and for Spark, connections, and reasons of failures.

Where the stream stands in a topic is in `streaming.kafka.lag`.
"""

from __future__ import annotations

import logging
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

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""Seconds that a broker may take to answer."""

_Received: TypeAlias = "tuple[bytes, Exception | None]"


def client_options(broker: Broker) -> dict[str, Any]:
    """Return the options with which a client of kafka-python reaches the broker.

    Raises:
        ConfigError: kafka_user is missing, or the file of kafka_ca.
    """
    servers = broker.servers.split(",")
    options = {"bootstrap_servers": servers, "security_protocol": broker.security}
    if ca := _ca(broker):
        options["ssl_cafile"] = ca
    if _logs_in(broker):
        options |= {
            "sasl_mechanism": broker.mechanism,
            "sasl_plain_username": broker.user,
            "sasl_plain_password": broker.password,
        }
    return options


def spark_options(broker: Broker) -> dict[str, str]:
    """Return the options with which Spark's Kafka source does what `client_options` does."""
    options = {"bootstrap.servers": broker.servers, "security.protocol": broker.security}
    if ca := _ca(broker):
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": ca}
    if _logs_in(broker):
        module = "plain.Plain" if broker.mechanism == "PLAIN" else "scram.Scram"
        user, password = _quoted(broker.user), _quoted(broker.password)
        options |= {
            "sasl.mechanism": broker.mechanism,
            "sasl.jaas.config": f"org.apache.kafka.common.security.{module}LoginModule required "
            f"username={user} password={password};",
        }
    return {f"kafka.{key}": value for key, value in options.items()}


def connect(broker: Broker, timeout: float = ANSWER_SECONDS) -> KafkaAdminClient:
    """Open an administration client; wait `timeout` seconds for a broker that does not answer yet.

    Raises:
        BrokerUnavailableError: no broker answers in time.
        BrokerRefusedError: a broker answers and refuses this client; raised at once.
        ConfigError: kafka_user is missing, or the file of kafka_ca.
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
            with _failures() as failures:
                try:
                    return KafkaAdminClient(**options, bootstrap_timeout_ms=2000)
                except KafkaError as error:
                    fault = failures[-1] if failures else error
            # A broker that is shutting down closes the connection as well, but only once.
            closing = _closing(failures, broker)
            if cure := _refusal(failures, broker) or (closed and closing):
                raise BrokerRefusedError(f"Kafka at {broker.servers} {cure}")
            closed = bool(closing)
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {broker.servers} ({fault}); start it, or set "
                "kafka_servers to where it is"
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


def _logs_in(broker: Broker) -> bool:
    if not broker.security.startswith("SASL"):
        return False
    if not broker.user:
        raise ConfigError(f"kafka_security {broker.security} needs kafka_user")
    return True


def _ca(broker: Broker) -> str:
    if "SSL" not in broker.security or not broker.ca:
        return ""
    if not broker.ca.is_file():
        raise ConfigError(f"kafka_ca: there is no file {broker.ca}")
    return str(broker.ca.absolute())


def _quoted(value: str) -> str:
    """Quote a string for Java's configuration of logins."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


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


def _refusal(failures: list[BaseException], broker: Broker) -> str:
    """Return what to correct where a broker answers and refuses this client; else empty."""
    from kafka.errors import AuthorizationError, SaslAuthenticationFailedError

    texts = " ".join(map(str, failures))
    if any(isinstance(e, (SaslAuthenticationFailedError, AuthorizationError)) for e in failures):
        return (
            f"does not accept the user {broker.user!r} with this password; set kafka_user "
            "and kafka_password (SIGHTSTREAM_KAFKA_PASSWORD)"
        )
    if "CERTIFICATE_VERIFY_FAILED" in texts:
        return (
            "shows a certificate that is not trusted, or is for another host; set kafka_ca to the "
            "PEM file of the authority that issued it"
        )
    if "Handshake failed" in texts:
        return f"does not speak TLS; set kafka_security, which is {broker.security}"
    return ""


def _closing(failures: list[BaseException], broker: Broker) -> str:
    """Return what to check where a broker closes the connection without a reason; else empty."""
    if "disconnected" not in " ".join(map(str, failures)):
        return ""
    login = f", kafka_sasl_mechanism ({broker.mechanism}), user and password"
    return (
        f"closes the connection; check kafka_security ({broker.security})"
        f"{login if _logs_in(broker) else ''}"
    )
