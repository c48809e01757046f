"""Lag: where the stream stands in each partition of a topic, and for how long messages wait.

The offsets in the checkpoint are compared with the broker's: Spark commits no consumer group's.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.config import Broker, Settings
from sightstream.errors import MessagesLostError
from sightstream.io.kafka import ANSWER_SECONDS, client_options, connect, require_topics
from streaming import checkpoint

if TYPE_CHECKING:
    from kafka import KafkaConsumer
    from kafka.admin import KafkaAdminClient


@dataclass(frozen=True)
class Partition:
    """Where the stream stands in a partition, in offsets of messages."""

    number: int
    begin: int  # the first that the broker still has
    committed: int  # the first that has no row yet
    end: int  # that of the next message

    @property
    def lag(self) -> int:
        """Messages that have no row yet."""
        return max(0, self.end - max(self.begin, self.committed))

    @property
    def lost(self) -> range:
        """Offsets that were deleted before they were read."""
        if self.committed > self.end:  # the topic was deleted and created anew
            return range(self.end, self.committed)
        return range(self.committed, max(self.committed, self.begin))


@dataclass(frozen=True)
class Topic:
    """A topic as the stream reads it; safe to ask beside a running stream and without one."""

    broker: Broker
    name: str
    checkpoint: Path
    from_end: bool = False  # without a checkpoint, the stream begins at the newest message
    fail_on_loss: bool = True  # the stream must stop when unread messages were deleted

    def committed_offsets(self, batch: int | None = None) -> dict[int, int]:
        """Return the offset at which a micro-batch ends, by partition; see `checkpoint.offset`."""
        offsets = checkpoint.offset(self.checkpoint, batch)
        return {int(number): end for number, end in offsets.get(self.name, {}).items()}

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
        numbers = sorted(each["partition_index"] for each in found["partitions"])
        begin, end = (
            client.list_partition_offsets({TopicPartition(self.name, n): spec for n in numbers})
            for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
        )
        committed = self.committed_offsets()
        unread = end if self.from_end and not committed else begin
        stands = []
        for number in numbers:
            each = TopicPartition(self.name, number)
            start = committed.get(number, unread[each].offset)
            stands.append(Partition(number, begin[each].offset, start, end[each].offset))
        return stands

    def require_all(self, stands: list[Partition]) -> None:
        """Raise MessagesLostError where the broker deleted unread messages and that matters."""
        lost = [
            f"partition {each.number}: offsets {each.lost.start} to {each.lost.stop - 1}"
            for each in stands
            if each.lost
        ]
        if lost and self.fail_on_loss:
            raise MessagesLostError(
                f"topic {self.name!r} has lost messages that were never read ({'; '.join(lost)}), "
                "since their retention ended or the topic was created anew; to go on with what is "
                "left: SIGHTSTREAM_KAFKA_FAIL_ON_DATA_LOSS=false sightstream run"
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
        options = {"max_partition_fetch_bytes": 1, "group_id": None, "enable_auto_commit": False}
        with closing(KafkaConsumer(**client_options(self.broker), **options)) as consumer:
            consumer.assign(list(behind))
            for partition, stand in behind.items():
                consumer.seek(partition, max(stand.begin, stand.committed))
            return seconds | _ages(consumer, len(behind))


def topic(settings: Settings) -> Topic:
    """Return the configured topic of images."""
    return Topic(
        settings.kafka,
        settings.kafka_topic,
        settings.checkpoint("kafka") / settings.kafka_topic,
        from_end=settings.kafka_starting_offsets == "latest",
        fail_on_loss=settings.kafka_fail_on_data_loss,
    )


def _ages(consumer: KafkaConsumer, partitions: int) -> dict[int, float]:
    """Seconds since the first message of each assigned partition, of those that answer in time."""
    ages: dict[int, float] = {}
    deadline = time.monotonic() + ANSWER_SECONDS
    while len(ages) < partitions and time.monotonic() < deadline:
        for partition, records in consumer.poll(timeout_ms=200).items():
            if partition.partition not in ages:
                consumer.pause(partition)
                age = time.time() - records[0].timestamp / 1000
                ages[partition.partition] = max(0.0, age)
    return ages
