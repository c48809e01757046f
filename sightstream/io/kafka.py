"""The one place that knows how to reach a Kafka broker, from Python and from Spark."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sightstream.config import Settings
from sightstream.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConfigError,
    TopicNotFoundError,
)
from streaming import checkpoint

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

# What fails is an error of ours: without a handler, logging would print it to stderr as well.
logging.getLogger("kafka").addHandler(logging.NullHandler())

PATIENCE = 5.0
"""Seconds that a broker may take to answer."""

_Received: TypeAlias = "tuple[bytes, Exception | None]"

_LOGIN = "org.apache.kafka.common.security.{}LoginModule"


def client_options(settings: Settings) -> dict[str, Any]:
    """What every client of kafka-python is given to reach the broker.

    Raises:
        ConfigError: there is no user to log in as, or no file of the authority's certificate.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_servers.split(","),
        "security_protocol": settings.kafka_security,
    }
    if "SSL" in settings.kafka_security and settings.kafka_ca:
        options["ssl_cafile"] = _ca(settings)
    if _logs_in(settings):
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_user,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return options


def spark_options(settings: Settings) -> dict[str, str]:
    """What Spark's Kafka source is given to reach the broker.

    Raises:
        ConfigError: there is no user to log in as, or no file of the authority's certificate.
    """
    options = {
        "bootstrap.servers": settings.kafka_servers,
        "security.protocol": settings.kafka_security,
    }
    if "SSL" in settings.kafka_security and settings.kafka_ca:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": _ca(settings)}
    if _logs_in(settings):
        plain = settings.kafka_sasl_mechanism == "PLAIN"
        module = _LOGIN.format("plain.Plain" if plain else "scram.Scram")
        user = _quoted(settings.kafka_user)
        password = _quoted(settings.kafka_password.get_secret_value())
        options |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.jaas.config": f"{module} required username={user} password={password};",
        }
    return {f"kafka.{key}": value for key, value in options.items()}


def connect(settings: Settings, timeout: float = PATIENCE) -> KafkaAdminClient:
    """Opens a client for administration; a broker that is away is waited for.

    Args:
        settings: the broker, and how to log in.
        timeout: seconds to wait for it.

    Raises:
        BrokerUnavailableError: none answers in time.
        BrokerRefusedError: one does, and refuses this client; at once.
        ConfigError: there is no user to log in as, or no file of the authority's certificate.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    options = client_options(settings)
    _read_to_the_end()
    deadline, closed = time.monotonic() + timeout, False
    while True:
        # The client would wait for each of them in turn, and does not say why none answers.
        fault: object = _unreachable(options["bootstrap_servers"])
        if not fault:
            with _failures() as failures:
                try:
                    return KafkaAdminClient(**options, bootstrap_timeout_ms=2000)
                except KafkaError as error:
                    fault = failures[-1] if failures else error
            # A broker that is on its way down closes as well, once.
            closing = _closing(failures, settings)
            if cure := _refusal(failures, settings) or (closed and closing):
                raise BrokerRefusedError(f"Kafka at {settings.kafka_servers} {cure}")
            closed = bool(closing)
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {settings.kafka_servers} ({fault}); start it, or set "
                "kafka_servers to where it is"
            )
        time.sleep(0.2)


def require_topics(client: KafkaAdminClient, *topics: str) -> None:
    """Returns when all of these topics exist.

    Raises:
        TopicNotFoundError: one of them does not.
    """
    for topic in topics:
        if not exists(client, topic):
            raise TopicNotFoundError(
                f"Kafka has no topic {topic!r}, or does not show it to this user; create it with: "
                f"sightstream publish --create-topic --topic {topic}"
            )


def exists(client: KafkaAdminClient, topic: str) -> bool:
    """Whether there is such a topic, as far as this user is told."""
    from kafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError

    absent = (UnknownTopicOrPartitionError.errno, TopicAuthorizationFailedError.errno)
    return all(each["error_code"] not in absent for each in client.describe_topics([topic]))


@dataclass(frozen=True)
class Partition:
    """Where the stream stands in a partition.

    Attributes:
        number: of the partition.
        begin: the first offset that the broker still has.
        committed: the first one that has no row yet.
        end: the one that the next message will get.
    """

    number: int
    begin: int
    committed: int
    end: int

    @property
    def lag(self) -> int:
        """Messages that have no row yet."""
        return max(0, self.end - max(self.begin, self.committed))

    @property
    def lost(self) -> range:
        """Offsets that were never read and never will be."""
        if self.committed > self.end:  # the topic was deleted and created anew
            return range(self.end, self.committed)
        return range(self.committed, max(self.committed, self.begin))


def partitions(client: KafkaAdminClient, settings: Settings) -> list[Partition]:
    """Where the stream stands, by partition; right when it is idle, and when it does not run.

    Raises:
        KafkaError: the broker is away.
        TopicNotFoundError: there is no such topic.
        CheckpointMismatchError: the checkpoint is damaged.
    """
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec

    topic = settings.kafka_topic
    require_topics(client, topic)
    (found,) = client.describe_topics([topic])
    numbers = [each["partition_index"] for each in found["partitions"]]
    begin, end = (
        client.list_partition_offsets({TopicPartition(topic, n): spec for n in numbers})
        for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
    )
    committed = committed_offsets(settings)
    unread = end if settings.kafka_starting_offsets == "latest" and not committed else begin
    stands = []
    for number in sorted(numbers):
        each = TopicPartition(topic, number)
        start = committed.get(number, unread[each].offset)
        stands.append(Partition(number, begin[each].offset, start, end[each].offset))
    return stands


def loss(settings: Settings, stands: list[Partition]) -> str:
    """What the broker has deleted before it was read, and how to go on; empty where nothing."""
    lost = [
        f"partition {each.number}: offsets {each.lost.start} to {each.lost.stop - 1}"
        for each in stands
        if each.lost
    ]
    if not lost or not settings.kafka_fail_on_data_loss:
        return ""
    return (
        f"topic {settings.kafka_topic!r} has lost messages that were never read "
        f"({'; '.join(lost)}), since their retention ended or the topic was created anew; to go on "
        "with what is left: SIGHTSTREAM_KAFKA_FAIL_ON_DATA_LOSS=false sightstream run"
    )


def committed_offsets(settings: Settings, batch: int | None = None) -> dict[int, int]:
    """Where a micro-batch of the stream ends, by partition; empty before the first.

    Args:
        settings: the checkpoint and the topic.
        batch: its number; None: the last one that was committed.
    """
    offsets = checkpoint.offset(checkpoint_of(settings), batch)
    return {int(number): end for number, end in offsets.get(settings.kafka_topic, {}).items()}


def checkpoint_of(settings: Settings) -> Path:
    """The checkpoint of the topic's streaming query."""
    return settings.checkpoint("kafka") / settings.kafka_topic


def waiting_seconds(settings: Settings, stands: list[Partition]) -> dict[int, float]:
    """How long the oldest message without a row has waited, by partition; 0 where none has.

    Raises:
        KafkaError: the broker is away.
    """
    from kafka import KafkaConsumer, TopicPartition

    seconds = {each.number: 0.0 for each in stands}
    behind = {TopicPartition(settings.kafka_topic, s.number): s for s in stands if s.lag}
    if not behind:
        return seconds
    # One message of each partition is enough.
    options = {"max_partition_fetch_bytes": 1, "group_id": None, "enable_auto_commit": False}
    with closing(KafkaConsumer(**client_options(settings), **options)) as consumer:
        consumer.assign(list(behind))
        for partition, stand in behind.items():
            consumer.seek(partition, max(stand.begin, stand.committed))
        deadline = time.monotonic() + PATIENCE
        left = set(behind)
        while left and time.monotonic() < deadline:
            for partition, records in consumer.poll(timeout_ms=200).items():
                if partition in left:
                    left.remove(partition)
                    consumer.pause(partition)
                    age = time.time() - records[0].timestamp / 1000
                    seconds[partition.partition] = max(0.0, age)
    return seconds


def _logs_in(settings: Settings) -> bool:
    if not settings.kafka_security.startswith("SASL"):
        return False
    if not settings.kafka_user:
        raise ConfigError(f"kafka_security {settings.kafka_security} needs kafka_user")
    return True


def _ca(settings: Settings) -> str:
    path = settings.kafka_ca
    if not path or not path.is_file():
        raise ConfigError(f"kafka_ca: there is no file {path}")
    return str(path.absolute())


def _quoted(value: str) -> str:
    """A string as Java's configuration of logins reads it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unreachable(servers: list[str]) -> str:
    """Why none of these accepts a connection; empty where one does."""
    fault = ""
    for server in servers:
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except ValueError:
            raise ConfigError(f"kafka_servers: {server!r} is not host:port") from None
        except OSError as error:
            fault = error.strerror or str(error)
        else:
            return ""
    return fault


@cache
def _read_to_the_end() -> None:
    """Lets kafka-python read what comes together with the end of a connection.

    It drops those bytes, and with them why a broker refuses a login.
    """
    from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        transport._sock_recv = _bytes_first(transport._sock_recv)


def _bytes_first(receive: Callable[[Any], _Received]) -> Callable[[Any], _Received]:
    def received(transport: Any) -> _Received:
        data, end = receive(transport)
        return data, None if data else end  # the next call meets the end again

    return received


@contextmanager
def _failures() -> Iterator[list[BaseException]]:
    """The errors that kafka-python tells its log alone, while it tries again and again."""
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


def _refusal(failures: list[BaseException], settings: Settings) -> str:
    """What to mend where a broker is there and does not want this client; else empty."""
    from kafka.errors import AuthorizationError, SaslAuthenticationFailedError

    told = " ".join(map(str, failures))
    if any(isinstance(e, (SaslAuthenticationFailedError, AuthorizationError)) for e in failures):
        return (
            f"does not accept the user {settings.kafka_user!r} with this password; set kafka_user "
            "and kafka_password (SIGHTSTREAM_KAFKA_PASSWORD)"
        )
    if "CERTIFICATE_VERIFY_FAILED" in told:
        return (
            "shows a certificate that is not trusted, or is for another host; set kafka_ca to the "
            "PEM file of the authority that issued it"
        )
    if "Handshake failed" in told:
        return f"does not speak TLS; set kafka_security, which is {settings.kafka_security}"
    return ""


def _closing(failures: list[BaseException], settings: Settings) -> str:
    """What to look at where a broker says nothing, and closes the connection; else empty."""
    if "disconnected" not in " ".join(map(str, failures)):
        return ""
    login = f", kafka_sasl_mechanism ({settings.kafka_sasl_mechanism}), user and password"
    return (
        f"closes the connection; check kafka_security ({settings.kafka_security})"
        f"{login if _logs_in(settings) else ''}"
    )
