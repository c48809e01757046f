"""Messages to a topic: all replicas acknowledge each of them, or its error is reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Timer
from typing import TYPE_CHECKING, Any

from sightstream.config import Broker
from sightstream.errors import BrokerUnavailableError, first_line
from sightstream.images.event import ImageEvent
from sightstream.io import kafka

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

IN_FLIGHT_BYTES = 32 * 2**20  # largest total size of messages that wait for their acknowledgement
LARGEST_MESSAGE = 64 * 2**20  # of a topic that is created; a broker takes requests of 100 MB
SILENCE_SECONDS = 3.0  # time without an answer after which the wait is reported
_BATCH = 512 * 2**10
_OVERHEAD = 1024


@dataclass(frozen=True)
class Message:
    """An image that is sent to a topic."""

    event: ImageEvent  # its id stays the same however often the message is sent
    key: bytes  # decides on the partition
    value: bytes  # the image's bytes; empty for a claim check

    @property
    def size(self) -> int:
        """Approximate bytes of memory."""
        return len(self.value) + _OVERHEAD


OnAnswer = Callable[[Message, str, float], None]


@dataclass(frozen=True)
class Destination:
    """A topic, and how to reach it."""

    broker: Broker
    topic: str
    timeout: float = 60  # seconds that the broker may be unreachable, and that a message may take
    partitions: int = 0  # of the topic, which is created if it does not exist; 0: it must exist
    image_bytes: int = 20 * 2**20  # the largest image that a topic that is created has to take


class Publisher:
    """An idempotent producer to one topic; answers come in the thread that sends."""

    def __init__(
        self, to: Destination, on_answer: OnAnswer, notify: Callable[[str], None] = lambda _: None
    ) -> None:
        """Connects, waiting for a broker that does not answer yet.

        `on_answer` is called once for each message, with its error, empty if it was acknowledged,
        and the time of that, in seconds since the epoch; `notify` with a sentence about a wait.

        Raises:
            BrokerUnavailableError: no broker answers in time, or it refuses this client.
            TopicNotFoundError: the topic does not exist.
        """
        from kafka import KafkaProducer

        self._where, self._topic, self._timeout = to.broker.servers, to.topic, to.timeout
        self._notify = notify
        self._on_answer = on_answer
        self._answers = SimpleQueue[tuple[Message, float, float, Exception | None]]()
        self._waiting = self._bytes = 0
        self._heard = 0.0
        with _reached(to, notify) as admin:
            if to.partitions:
                _create(admin, to)
            kafka.require_topics(admin, self._topic)
            # Of value, key and headers together; the rest is Kafka's own.
            self.limit = _limit(admin, self._topic) - _OVERHEAD
        self._producer = KafkaProducer(
            **kafka.client_options(to.broker),
            acks="all", enable_idempotence=True, compression_type=None,
            allow_auto_create_topics=False, max_request_size=self.limit + _OVERHEAD,
            batch_size=min(_BATCH, self.limit), linger_ms=5,
            delivery_timeout_ms=int(to.timeout * 1000), max_block_ms=int(to.timeout * 1000),
            request_timeout_ms=min(30_000, max(100, int(to.timeout * 1000) - 100)),
            reconnect_backoff_max_ms=1000,
        )  # fmt: skip

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection; messages without an answer are given up."""
        from kafka.errors import KafkaTimeoutError

        with suppress(KafkaTimeoutError):
            self._producer.close(timeout=0 if self._waiting else 5)

    def fits(self, message: Message, size: int) -> bool:
        """Returns whether a message could carry a value of this size."""
        headers = sum(len(name) + len(value) + 8 for name, value in message.event.to_headers())
        return size + len(message.key) + headers <= self.limit

    def send(self, message: Message) -> None:
        """Sends a message, once few enough others wait for their acknowledgement.

        Raises:
            BrokerUnavailableError: nothing was acknowledged within the timeout.
        """
        while self._waiting and self._bytes + message.size > IN_FLIGHT_BYTES:
            self._answer()
        self.poll()
        if not self._waiting:
            self._heard = time.monotonic()
        self._waiting += 1
        self._bytes += message.size
        self._produce(message, time.monotonic())

    def flush(self) -> None:
        """Waits until every message is answered; raises as `send` does."""
        while self._waiting:
            self._answer()

    def poll(self) -> None:
        """Reports the answers that have come so far; raises as `send` does."""
        while not self._answers.empty():
            self._answer()
        self._mind_silence()

    def _produce(self, message: Message, since: float) -> None:
        from kafka.errors import KafkaError

        def answered(error: Exception | None) -> None:
            self._answers.put((message, since, time.time(), error))

        try:
            future = self._producer.send(
                self._topic, value=message.value, key=message.key,
                headers=message.event.to_headers(),
                timestamp_ms=int(message.event.event_time * 1000),
            )  # fmt: skip
        except KafkaError as error:  # such as the time that it waits for a broker's metadata
            answered(error)
        else:
            future.add_callback(lambda _: answered(None))
            future.add_errback(answered)

    def _answer(self) -> None:
        """Waits for one answer and reports it; sends the message again if that may help."""
        from kafka.errors import KafkaTimeoutError

        while True:
            try:
                message, since, when, error = self._answers.get(timeout=0.5)
                break
            except Empty:
                self._mind_silence()
        self._heard = time.monotonic()
        if error and time.monotonic() - since < self._timeout and _passes(error):
            self._produce(message, since)
            return
        self._waiting -= 1
        self._bytes -= message.size
        self._on_answer(message, str(error) if error else "", when)
        if isinstance(error, KafkaTimeoutError):
            raise BrokerUnavailableError(
                f"Kafka at {self._where} has acknowledged nothing for {self._timeout:g} s; start "
                "it, and publish again what was not acknowledged"
            )

    def _mind_silence(self) -> None:
        if self._waiting and 0 < self._heard < time.monotonic() - SILENCE_SECONDS:
            self._heard = 0.0  # once is enough
            self._notify(_patience(self._where, self._timeout))


@contextmanager
def _reached(to: Destination, notify: Callable[[str], None]) -> Iterator[KafkaAdminClient]:
    """Opens an administration client for a block; reports a long wait for the broker."""
    sentence = _patience(to.broker.servers, to.timeout)
    timer = Timer(min(SILENCE_SECONDS, to.timeout / 2), notify, (sentence,))
    timer.daemon = True
    timer.start()
    try:
        admin = kafka.connect(to.broker, to.timeout)
    finally:
        timer.cancel()
    try:
        yield admin
    finally:
        admin.close()


def _patience(where: str, timeout: float) -> str:
    return f"Kafka at {where} does not answer; waiting for it, {timeout:g} s at most"


def _passes(error: Exception) -> bool:
    """Returns whether the same message may be acknowledged when it is sent again."""
    from kafka import errors

    # kafka-python fails what was on its way when a broker forgot, or mixed up, the numbers by
    # which it knows repetitions; the event id is how the stream knows them.
    numbers = (
        errors.OutOfOrderSequenceNumberError,
        errors.UnknownProducerIdError,
        errors.InvalidProducerEpochError,
    )
    return isinstance(error, (errors.RetriableError, *numbers))


def _create(admin: KafkaAdminClient, to: Destination) -> None:
    from kafka import errors

    largest = str(min(to.image_bytes + _OVERHEAD * 16, LARGEST_MESSAGE))
    wanted: dict[str, dict[str, Any]] = {
        to.topic: {"num_partitions": to.partitions, "configs": {"max.message.bytes": largest}}
    }
    try:
        admin.create_topics(wanted, wait_for_metadata=True)
    except errors.TopicAlreadyExistsError:
        return
    except errors.TopicAuthorizationFailedError:
        raise BrokerUnavailableError(
            f"Kafka does not let this user create the topic {to.topic!r}; ask for that right, or "
            "for the topic"
        ) from None
    except errors.KafkaError as error:  # such as a policy of the broker, or too many partitions
        raise BrokerUnavailableError(
            f"Kafka does not create the topic {to.topic!r} with {to.partitions} partition(s): "
            f"{first_line(error)}; create it as the broker wants it"
        ) from None


def _limit(admin: KafkaAdminClient, topic: str) -> int:
    """The largest message of a topic that the broker takes, in bytes."""
    from kafka.admin import ConfigResource, ConfigResourceType

    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    answer = admin.describe_configs(asked, config_filter="all")
    return int(answer["topic"][topic]["max.message.bytes"]["value"])
