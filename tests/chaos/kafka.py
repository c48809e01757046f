"""Kafka: one node or two, the topic of images, and what is done to it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream import config
from sightstream.io import kafka
from tests import broker, topics
from tests.chaos.checker import Message

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

TOPIC, TOLD = "images", "predictions"
PARTITIONS = 4

SETTLED = 60.0
"""Seconds within which each transaction has ended: the broker aborts one of a lost client."""

Place = tuple[int, int]
"""Partition and offset of a message."""

_RIGHTS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
_COPIED = dict.fromkeys(
    (
        "default.replication.factor", "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
    ), "2",
)  # fmt: skip
"""Settings for topics that both nodes hold."""


class Kafka:
    """Runs until the block ends.

    Attributes:
        nodes: the first, which is the controller too, and perhaps a second.
    """

    def __init__(
        self, folder: Path, *, two: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts nothing yet.

        Args:
            folder: for what the nodes hold.
            two: whether there is a second node.
            environment: what their processes get further.
        """
        self._folder, self._two, self._environment = folder, two, environment
        self.nodes: list[broker.Broker] = []
        self.partitions = PARTITIONS
        self._stack = ExitStack()

    def __enter__(self) -> Kafka:
        settings = _RIGHTS | (_COPIED if self._two else {})
        with ExitStack() as stack:
            for number in range(1 + self._two):
                beside = self.nodes[0] if number else None
                node = broker.running(
                    self._folder / f"{number}", settings=settings, beside=beside,
                    environment=self._environment,
                )  # fmt: skip
                self.nodes.append(stack.enter_context(node))
            topics.create(self.nodes[0], TOPIC, partitions=PARTITIONS)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def servers(self) -> str:
        """Their addresses, as the setting `kafka_servers` has them."""
        return ",".join(each.address for each in self.nodes)

    @property
    def settings(self) -> dict[str, str]:
        """Of a home that reads the topic."""
        return {
            "kafka_servers": self.servers, "kafka_topic": TOPIC, "kafka_predictions_topic": TOLD
        }  # fmt: skip

    def enlarge(self) -> int:
        """Gives the topic one more partition; returns their number."""
        with self._client() as client:
            client.create_partitions({TOPIC: self.partitions + 1})
        self.partitions += 1
        return self.partitions

    def ends(self) -> dict[int, int]:
        """The offset of each partition's next message."""
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        parts = [TopicPartition(TOPIC, number) for number in range(self.partitions)]
        with self._client() as client:
            found = client.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.LATEST))
        return {each.partition: found[each].offset for each in parts}

    def delete(self, ends: dict[int, int]) -> None:
        """Deletes all messages before an offset of each partition, as their retention does."""
        from kafka import TopicPartition

        with self._client() as client:
            client.delete_records({TopicPartition(TOPIC, n): end for n, end in ends.items()})

    def deny_reading(self) -> None:
        """Takes the right to read the topic away from everyone, and no other right."""
        from kafka.admin import ACL, ResourcePattern, ResourceType

        images = ResourcePattern(ResourceType.TOPIC, TOPIC)
        with self._client() as client:
            client.create_acls([ACL("User:*", "*", *right, images) for right in _denied()])

    def allow_reading(self) -> None:
        """Undoes it."""
        from kafka.admin import ACLFilter, ResourcePatternFilter, ResourceType
        from kafka.admin import ACLResourcePatternType as Kind

        images = ResourcePatternFilter(ResourceType.TOPIC, TOPIC, Kind.LITERAL)
        with self._client() as client:
            client.delete_acls([ACLFilter(None, None, *right, images) for right in _denied()])

    def lead_as_before(self) -> None:
        """Gives partitions back to the nodes that led them first."""
        from kafka.errors import KafkaError

        with self._client() as client:
            try:
                client.elect_leaders(0, [TOPIC], raise_errors=False)  # the preferred ones
            except KafkaError:
                return  # a node that has just started may not have caught up

    def arrived(self) -> dict[str, list[Place]]:
        """Where each event of the topic of images is, by its id; none of an aborted transaction.

        It waits until no transaction is open. No sender is at work meanwhile.
        """
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

        found, ends = defaultdict[str, list[Place]](list), self.ends()
        settings = {
            "bootstrap.servers": self.servers, "group.id": "chaos", "enable.auto.commit": False,
            "isolation.level": "read_committed", "enable.partition.eof": True, "log_level": 0,
        }  # fmt: skip
        deadline = time.monotonic() + SETTLED
        with closing(Consumer(settings)) as consumer:
            consumer.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in ends])
            while ends:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"partitions {sorted(ends)} of {TOPIC} have no end")
                message = consumer.poll(0.5)
                if message is None:
                    continue
                place = message.partition(), message.offset()
                error = message.error()
                if not error:
                    names = {name: value.decode() for name, value in message.headers()}
                    found[f"{names['ce_source']}#{names['ce_id']}"].append(place)
                # The end is that of what is settled, and comes again where that goes on.
                elif error.code() == KafkaError._PARTITION_EOF and place[1] >= ends[place[0]]:
                    del ends[place[0]]
        return dict(found)

    def told(self) -> list[Message]:
        """The messages of the predictions topic."""
        return [
            Message((each.key or b"").decode(), row["event_id"], row["status"], row["label"] or "",
                    row["model_version"] or 0)
            for each in topics.messages(self.nodes[0], TOLD)
            for row in [json.loads(each.value)]
        ]  # fmt: skip

    def _client(self) -> KafkaAdminClient:
        return kafka.connect(config.Broker(self.servers), timeout=30)


def unread(
    arrived: Mapping[str, Sequence[Place]], read: Mapping[str, int], ends: Mapping[int, int]
) -> list[str]:
    """The events that are gone once all before `ends` is deleted, and that were not read before.

    Args:
        arrived: as `Kafka.arrived` returns it.
        read: offsets up to which micro-batches are done, by partition, as a checkpoint names it.
        ends: of the partitions that are deleted; the others keep their messages.
    """
    return [
        name for name, places in arrived.items()
        if all(read.get(str(n), at) <= at < ends.get(n, 0) for n, at in places)
    ]  # fmt: skip


def _denied() -> list[tuple[Any, Any]]:
    """The operations and permissions that leave all rights but that to read."""
    from kafka.admin import ACLOperation, ACLPermissionType

    # Where a resource has any right, what is not allowed is denied; and a denial wins.
    return [
        (ACLOperation.ALL, ACLPermissionType.ALLOW), (ACLOperation.READ, ACLPermissionType.DENY)
    ]  # fmt: skip
