"""Lag: where the stream stands in each partition of a topic, and for how long messages wait.

The offsets in the checkpoint are compared with the broker's: Spark commits no consumer group's.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream.config import Broker, Settings
from sightstream.errors import MessagesLostError
from sightstream.io import disk
from sightstream.io.kafka import ANSWER_SECONDS, client_options, connect, require_topics
from streaming import checkpoint
from streaming.kafka.assignment import Span, spans

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition
    from kafka.admin import KafkaAdminClient

log = logging.getLogger(__name__)

TOPIC_ID = "topic-id"  # file of ours in the checkpoint's folder


@dataclass(frozen=True)
class Partition:
    """Where the stream stands in a partition, in offsets of messages."""

    number: int
    begin: int  # the first that the broker still has
    committed: int  # the first that has no row yet
    end: int  # that of the next message that may be read
    stored: int = -1  # that of the next message of all, where a transaction holds some back
    topic_id: str = ""  # under which the broker knows the topic; empty where it has no ids

    @property
    def lag(self) -> int:
        """Messages that have no row yet."""
        return max(0, self.end - max(self.begin, self.committed))

    @property
    def last(self) -> int:
        """The offset of the next message of all."""
        return max(self.end, self.stored)

    @property
    def lost(self) -> range:
        """Offsets that were deleted before they were read."""
        if self.committed > self.last:  # the topic was deleted and created anew
            return range(self.last, self.committed)
        return range(self.committed, max(self.committed, self.begin))


@dataclass(frozen=True)
class Topic:
    """A topic as the stream reads it; safe to ask beside a running stream and without one."""

    broker: Broker
    name: str
    checkpoint: Path
    from_end: bool = False  # without a checkpoint, the stream begins at the newest message
    fail_on_loss: bool = True  # the stream must stop when unread messages were deleted
    isolation: str = "read_committed"  # else messages of open and aborted transactions count too

    def committed_offsets(self, batch: int | None = None) -> dict[int, int]:
        """Return the offset at which a micro-batch ends, by partition; see `checkpoint.offset`."""
        return _ends(checkpoint.offset(self.checkpoint, batch, dict), self.name)

    def spans(self, batch: int) -> list[Span]:
        """Return the offsets of a micro-batch, by partition."""
        first = {} if batch else checkpoint.first_offset(self.checkpoint)
        begins = self.committed_offsets(batch - 1) or _ends(first, self.name)
        return spans(begins, self.committed_offsets(batch))

    def partitions(self, client: KafkaAdminClient) -> list[Partition]:
        """Compare the checkpoint with the broker, by partition.

        Raises:
            KafkaError: the broker does not answer.
            TopicNotFoundError: the topic does not exist.
        """
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        require_topics(client, self.name)
        (found,) = client.describe_topics([self.name])
        topic_id = _text(found.get("topic_id"))
        anew = self._is_other(topic_id)
        # Before the broker's, which a running stream must not seem to be ahead of.
        committed = {} if anew else self.committed_offsets()
        parts = [TopicPartition(self.name, each["partition_index"]) for each in found["partitions"]]
        begin, stored, end = (
            client.list_partition_offsets(dict.fromkeys(parts, spec), isolation)
            for spec, isolation in (
                (OffsetSpec.EARLIEST, "read_uncommitted"),
                (OffsetSpec.LATEST, "read_uncommitted"),
                (OffsetSpec.LATEST, self.isolation),
            )
        )
        unread = end if self.from_end and not committed and not anew else begin
        return [
            Partition(
                each.partition, begin[each].offset,
                committed.get(each.partition, unread[each].offset),
                end[each].offset, stored[each].offset, topic_id,
            )
            for each in sorted(parts)
        ]  # fmt: skip

    def is_anew(self, stands: list[Partition]) -> bool:
        """Return whether the topic was deleted and made anew since the checkpoint was begun."""
        beyond = any(each.committed > each.last for each in stands)
        return beyond or self._is_other(stands[0].topic_id)

    def note(self, topic_id: str) -> None:
        """Record in the checkpoint which topic of this name it is of."""
        if topic_id and (not self._noted() or self._is_other(topic_id) or not self._begun):
            self.checkpoint.mkdir(parents=True, exist_ok=True)
            disk.replace(self.checkpoint / TOPIC_ID, topic_id.encode())

    def put_aside(self) -> None:
        """Put the checkpoint aside, so that the stream begins at the beginning of the topic."""
        aside = self.checkpoint.with_name(f"{self.name}~{time.time():.0f}")
        self.checkpoint.rename(aside)
        log.warning(
            "topic %r was made anew and is read from its beginning; the checkpoint of the former "
            "one is %s", self.name, aside,
        )  # fmt: skip

    @property
    def _begun(self) -> bool:
        return (self.checkpoint / "metadata").exists()

    def _is_other(self, topic_id: str) -> bool:
        noted = self._noted() if topic_id and self._begun else ""
        return noted not in {"", topic_id}

    def _noted(self) -> str:
        try:
            return (self.checkpoint / TOPIC_ID).read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def require_all(self, stands: list[Partition]) -> None:
        """Raise MessagesLostError where the broker deleted unread messages and that matters."""
        if self.fail_on_loss and self.is_anew(stands):
            raise MessagesLostError(
                f"topic {self.name!r} was deleted and made anew since the stream read it "
                f"({self._differences(stands)}); what the former one held unread is gone, and the "
                f"checkpoint does not go with the new one; to read that from its beginning: "
                f"mv {self.checkpoint} {self.checkpoint}.old, and start again"
            )
        lost = [
            f"partition {each.number}: offsets {each.lost.start} to {each.lost.stop - 1}"
            for each in stands
            if each.lost
        ]
        if lost and self.fail_on_loss:
            raise MessagesLostError(
                f"topic {self.name!r} has lost messages that were never read ({'; '.join(lost)}), "
                "since their retention ended; to go on with what is left: "
                "SIGHTSTREAM_KAFKA_FAIL_ON_DATA_LOSS=false sightstream run"
            )

    def _differences(self, stands: list[Partition]) -> str:
        new = stands[0].topic_id
        if self._is_other(new):
            return f"its id was {self._noted()}, and is {new}"
        return "; ".join(
            f"partition {each.number}: offsets {each.lost.start} to {each.lost.stop - 1}, which "
            "were read, do not exist"
            for each in stands
            if each.lost
        )

    def look(self) -> tuple[list[Partition], dict[int, float]]:
        """Return `partitions` and their `waiting_seconds`; raises as `connect` does too."""
        with connect(self.broker) as client:
            stands = self.partitions(client)
        return stands, self.waiting_seconds(stands)

    def waiting_seconds(self, stands: list[Partition]) -> dict[int, float]:
        """Return the age of each partition's oldest message without a row; 0 where none waits."""
        from kafka import KafkaConsumer, TopicPartition

        seconds = {each.number: 0.0 for each in stands}
        behind = {TopicPartition(self.name, s.number): s for s in stands if s.lag}
        if not behind:
            return seconds
        # One message of each partition is enough.
        options = {
            "max_partition_fetch_bytes": 1, "group_id": None, "enable_auto_commit": False,
            "isolation_level": self.isolation,
        }  # fmt: skip
        with closing(KafkaConsumer(**client_options(self.broker), **options)) as consumer:
            consumer.assign(list(behind))
            for partition, stand in behind.items():
                consumer.seek(partition, max(stand.begin, stand.committed))
            return seconds | _ages(consumer, {each: s.end for each, s in behind.items()})


def topic(settings: Settings) -> Topic:
    """Return the configured topic of images."""
    return Topic(
        settings.kafka,
        settings.kafka_topic,
        settings.checkpoint("kafka") / settings.kafka_topic,
        from_end=settings.kafka_starting_offsets == "latest",
        fail_on_loss=settings.kafka_fail_on_data_loss,
        isolation=settings.kafka_isolation_level,
    )


def _ends(offset: dict[str, Any], topic: str) -> dict[int, int]:
    return {int(number): end for number, end in offset.get(topic, {}).items()}


def _ages(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> dict[int, float]:
    """Seconds since the first message of each assigned partition, of those that answer in time."""
    ages: dict[int, float] = {}
    deadline = time.monotonic() + ANSWER_SECONDS
    # Offsets up to the end may hold no message, only the ends of transactions.
    while time.monotonic() < deadline and any(
        each.partition not in ages and consumer.position(each) < end for each, end in ends.items()
    ):
        for partition, records in consumer.poll(timeout_ms=200).items():
            if partition.partition not in ages:
                consumer.pause(partition)
                age = time.time() - records[0].timestamp / 1000
                ages[partition.partition] = max(0.0, age)
    return ages


def _text(topic_id: object) -> str:
    """Return a topic's id as text; empty for none, which brokers before 2.8 give as zeros."""
    text = str(topic_id or "")
    return text if text.strip("0-") else ""
