"""Messages of a task's offsets, which its worker takes from the broker itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from sightstream.errors import BrokerUnavailableError, MessagesLostError
from sightstream.io import librdkafka
from sightstream.runtime.spark import PIECE
from streaming.kafka.assignment import Span
from streaming.kafka.events import Message

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, TopicPartition
    from confluent_kafka import Message as Received

WAIT_SECONDS = 30.0
"""Seconds without anything from the broker after which a task fails."""

HELD = 16 * 2**20
"""Bytes of messages in a piece, but for the last message."""

_OPTIONS = {
    "enable.partition.eof": True,  # offsets up to the end may hold no message
    "auto.offset.reset": "error",
    "check.crcs": True,
    # A consumer reads ahead as long as it holds less, and asks again soon after.
    "queued.max.messages.kbytes": HELD // 2 // 2**10,
    "fetch.queue.backoff.ms": 5,
    "max.partition.fetch.bytes": HELD // 4,
    "fetch.max.bytes": HELD // 2,
    "receive.message.max.bytes": 2**31 - 1,  # one message may be larger than all that
    # Who asks at the end of a partition would wait for half a second.
    "fetch.wait.max.ms": 10,
    "reconnect.backoff.max.ms": 1000,
}

_consumers: dict[Messages, Consumer] = {}
"""Of this process, between two tasks: to connect takes longer than to read a few messages."""


@dataclass(frozen=True)
class Messages:
    """The messages of a topic, as workers read them; picklable."""

    login: librdkafka.Login
    topic: str
    isolation: str
    fail_on_loss: bool

    def pieces(self, spans: Sequence[Span]) -> Iterator[list[Message]]:
        """Yield the messages of different partitions, those of each in order.

        Raises:
            MessagesLostError: the broker has deleted some of them, and that matters.
            BrokerUnavailableError: nothing came for `WAIT_SECONDS`.
            KafkaException: what the broker has cannot be read.
        """
        if not spans:
            return
        consumer = _consumers.pop(self, None) or self._consumer()
        try:
            yield from _Reading(self, consumer, spans).pieces()
        except BaseException:
            consumer.close()
            raise
        _consumers[self] = consumer

    def _consumer(self) -> Consumer:
        options = _OPTIONS | {"isolation.level": self.isolation}
        return librdkafka.consumer(self.login, options)


class _Reading:
    """The offsets of one task, on their way."""

    def __init__(self, of: Messages, consumer: Consumer, spans: Sequence[Span]) -> None:
        self._of = of
        self._consumer = consumer
        self._left = {each.partition: each for each in spans}
        self._reason: object = "no answer"

    def pieces(self) -> Iterator[list[Message]]:
        self._consumer.incremental_assign([*map(self._place, self._left.values())])
        piece, held = list[Message](), 0
        for message in self._messages():
            piece.append(message)
            held += len(message.value or b"")
            if len(piece) == PIECE or held >= HELD:
                yield piece
                piece, held = [], 0
        if piece:
            yield piece

    def _messages(self) -> Iterator[Message]:
        for each in self._received():
            number, offset = each.partition(), each.offset()
            span = self._left.get(number)
            if error := each.error():
                self._note(error, span if each.topic() else None, offset)
            elif span and offset >= span.begin:  # else from before it was sought
                if offset < span.end:
                    yield _message(each, number, offset)
                self._advance(span, offset + 1)

    def _received(self) -> Iterator[Received]:
        deadline = time.monotonic() + WAIT_SECONDS
        while self._left:
            found = self._consumer.poll(0.1)
            if found is not None:  # a message without bytes is false
                yield found
                yield from self._consumer.consume(PIECE // 4, 0)  # what is here already
                # Whoever takes the messages may take long.
                deadline = time.monotonic() + WAIT_SECONDS
            elif time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"Kafka at {self._of.login.broker.servers} gave nothing of "
                    f"{[*self._left.values()]} for {WAIT_SECONDS:.0f} s: {self._reason}"
                )

    def _advance(self, span: Span, begin: int) -> None:
        """Go on at an offset of a partition; its end is the end of the reading."""
        self._left[span.partition] = span._replace(begin=begin)
        if begin >= span.end:
            del self._left[span.partition]
            self._consumer.incremental_unassign([self._place(span)])

    def _note(self, error: KafkaError, span: Span | None, offset: int) -> None:
        from confluent_kafka import KafkaException

        if error.code() == error._PARTITION_EOF:
            if span and offset >= span.end:
                self._advance(span, offset)
        elif error.code() == error._AUTO_OFFSET_RESET:
            if span:
                self._skip(span)
        elif span and error.code() != error.UNKNOWN_TOPIC_OR_PART:  # as while a broker starts
            raise KafkaException(error)
        else:
            self._reason = error

    def _skip(self, span: Span) -> None:
        """Go on at what the broker still has, unless all must be read."""
        if self._of.fail_on_loss:
            raise MessagesLostError(
                f"the broker does not have offset {span.begin} of partition {span.partition}"
            )
        first, end = self._consumer.get_watermark_offsets(self._place(span), WAIT_SECONDS)
        begin = max(first, span.begin)
        self._advance(span, span.end if begin > end else begin)
        if again := self._left.get(span.partition):
            # A partition that has failed cannot be sought.
            self._consumer.incremental_unassign([self._place(again)])
            self._consumer.incremental_assign([self._place(again)])

    def _place(self, span: Span) -> TopicPartition:
        from confluent_kafka import TopicPartition

        return TopicPartition(self._of.topic, span.partition, span.begin)


def _message(received: Any, number: int, offset: int) -> Message:
    _, milliseconds = received.timestamp()
    return Message(
        number, offset, milliseconds, received.key(), received.value(), _headers(received)
    )


_raw_headers = methodcaller("headers")
"""Python does not see the error of a method that it calls itself, and would go on with NULLs."""


def _headers(received: Received) -> Mapping[str, bytes | None]:
    try:
        found = _raw_headers(received)
    except (SystemError, UnicodeDecodeError):  # a name in them is no UTF-8
        return {}
    return dict(reversed(found)) if found else {}
