"""Onto a topic: every message is acknowledged by all replicas, or told as what it became."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Timer
from typing import TYPE_CHECKING, Any

from sightstream.config import Settings
from sightstream.errors import BrokerUnavailableError
from sightstream.images.event import Headers, ImageEvent
from sightstream.io import kafka

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

IN_FLIGHT = 32 * 2**20
"""Bytes of messages that wait for their acknowledgement at most."""

LARGEST = 64 * 2**20
"""Bytes of a message that a topic is made for at most; a broker takes requests of 100 MB."""

SILENCE = 3.0
"""Seconds without an answer after which the wait is told."""

_BATCH = 512 * 2**10
_OVERHEAD = 1024


@dataclass(frozen=True)
class Message:
    """An image on its way to a topic.

    Attributes:
        event: its id stays the same however often the message is sent.
        key: decides on the partition.
        value: the image's bytes; empty for a claim check.
    """

    event: ImageEvent
    key: bytes
    value: bytes

    @property
    def headers(self) -> Headers:
        """As the broker gets them."""
        return self.event.to_headers()

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return len(self.value) + _OVERHEAD


OnAnswer = Callable[[Message, str, float], None]


class Publisher:
    """An idempotent producer to one topic; answers come in the thread that sends."""

    def __init__(
        self, settings: Settings, on_answer: OnAnswer, *,
        timeout: float = 60, tell: Callable[[str], None] = lambda _: None, partitions: int = 0,
    ) -> None:  # fmt: skip
        """Connects; a broker that is away is waited for.

        Args:
            settings: the broker, how to log in, and the topic.
            on_answer: called once for each message, with what is wrong, empty if it was
                acknowledged, and the time of that, in seconds since the epoch.
            timeout: seconds that a broker may be away, and that a message may take.
            tell: called with a sentence when there is something to wait for.
            partitions: of the topic, which is created where there is none; 0: it must exist.

        Raises:
            BrokerUnavailableError: no broker answers in time, or it refuses us.
            TopicNotFoundError: there is no such topic.
        """
        from kafka import KafkaProducer

        self._where = settings.kafka_servers
        self._topic, self._timeout, self._tell = settings.kafka_topic, timeout, tell
        self._on_answer = on_answer
        self._answers = SimpleQueue[tuple[Message, float, float, Exception | None]]()
        self._waiting = self._bytes = 0
        self._heard = 0.0
        with _reached(settings, timeout, tell) as admin:
            if partitions:
                _create(admin, self._topic, partitions, settings.max_image_bytes)
            kafka.require_topics(admin, self._topic)
            # Of value, key and headers together; the rest is Kafka's own.
            self.limit = _limit(admin, self._topic) - _OVERHEAD
        self._producer = KafkaProducer(
            **kafka.client_options(settings.kafka),
            acks="all", enable_idempotence=True, compression_type=None,
            allow_auto_create_topics=False, max_request_size=self.limit + _OVERHEAD,
            batch_size=min(_BATCH, self.limit), linger_ms=5,
            delivery_timeout_ms=int(timeout * 1000), max_block_ms=int(timeout * 1000),
            request_timeout_ms=min(30_000, max(100, int(timeout * 1000) - 100)),
            reconnect_backoff_max_ms=1000,
        )  # fmt: skip

    def __enter__(self) -> Publisher:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Lets go of the broker; what is still unanswered is given up."""
        from kafka.errors import KafkaTimeoutError

        with suppress(KafkaTimeoutError):
            self._producer.close(timeout=0 if self._waiting else 5)

    def fits(self, message: Message, size: int) -> bool:
        """Whether a message could have a value of this size."""
        headers = sum(len(name) + len(value) + 8 for name, value in message.headers)
        return size + len(message.key) + headers <= self.limit

    def send(self, message: Message) -> None:
        """Sends a message, as soon as few enough others wait for their acknowledgement.

        Raises:
            BrokerUnavailableError: none has been acknowledged for as long as the timeout.
        """
        while self._waiting and self._bytes + message.size > IN_FLIGHT:
            self._answer()
        self.poll()
        if not self._waiting:
            self._heard = time.monotonic()
        self._waiting += 1
        self._bytes += message.size
        self._produce(message, time.monotonic())

    def flush(self) -> None:
        """Returns when every message is answered.

        Raises:
            BrokerUnavailableError: none has been acknowledged for as long as the timeout.
        """
        while self._waiting:
            self._answer()

    def poll(self) -> None:
        """Tells the answers that have come so far.

        Raises:
            BrokerUnavailableError: none has been acknowledged for as long as the timeout.
        """
        while not self._answers.empty():
            self._answer()
        self._mind_silence()

    def _produce(self, message: Message, since: float) -> None:
        from kafka.errors import KafkaError

        answers = self._answers
        try:
            future = self._producer.send(
                self._topic, value=message.value, key=message.key, headers=message.headers,
                timestamp_ms=int(message.event.event_time * 1000),
            )  # fmt: skip
        except KafkaError as error:  # such as the time that it waits for a broker's metadata
            answers.put((message, since, time.time(), error))
            return
        future.add_callback(lambda _: answers.put((message, since, time.time(), None)))
        future.add_errback(lambda error: answers.put((message, since, time.time(), error)))

    def _answer(self) -> None:
        """Waits for one answer, and tells it; a message that may be tried again is."""
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
        if self._waiting and 0 < self._heard < time.monotonic() - SILENCE:
            self._heard = 0.0  # once is enough
            self._tell(_patience(self._where, self._timeout))


@contextmanager
def _reached(
    settings: Settings, timeout: float, tell: Callable[[str], None]
) -> Iterator[KafkaAdminClient]:
    """A client for administration, for the time of a block; a long wait for it is told."""
    sentence = _patience(settings.kafka_servers, timeout)
    timer = Timer(min(SILENCE, timeout / 2), tell, (sentence,))
    timer.daemon = True
    timer.start()
    try:
        admin = kafka.connect(settings.kafka, timeout)
    finally:
        timer.cancel()
    try:
        yield admin
    finally:
        admin.close()


def _patience(where: str, timeout: float) -> str:
    return f"Kafka at {where} does not answer; waiting for it, {timeout:g} s at most"


def _passes(error: Exception) -> bool:
    """Whether the same message may be acknowledged when it is sent again."""
    from kafka import errors

    # kafka-python fails what was on its way when a broker forgot, or mixed up, the numbers by
    # which it knows repetitions; the event id is how the stream knows them.
    numbers = (
        errors.OutOfOrderSequenceNumberError,
        errors.UnknownProducerIdError,
        errors.InvalidProducerEpochError,
    )
    return isinstance(error, (errors.RetriableError, *numbers))


def _create(admin: KafkaAdminClient, topic: str, partitions: int, image_bytes: int) -> None:
    from kafka import errors

    largest = min(image_bytes + _OVERHEAD * 16, LARGEST)
    wanted: dict[str, dict[str, Any]] = {
        topic: {"num_partitions": partitions, "configs": {"max.message.bytes": str(largest)}}
    }
    try:
        admin.create_topics(wanted, wait_for_metadata=True)
    except errors.TopicAlreadyExistsError:
        return
    except errors.TopicAuthorizationFailedError:
        raise BrokerUnavailableError(
            f"Kafka does not let this user create the topic {topic!r}; ask for that right, or for "
            "the topic"
        ) from None


def _limit(admin: KafkaAdminClient, topic: str) -> int:
    """The bytes that the broker takes as one message of this topic."""
    from kafka.admin import ConfigResource, ConfigResourceType

    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    answer = admin.describe_configs(asked, config_filter="all")
    return int(answer["topic"][topic]["max.message.bytes"]["value"])
