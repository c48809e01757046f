"""Kafka as a source: Spark decides on offsets, and workers take the messages themselves."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Event, Thread
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa

from sightstream.errors import BrokerRefusedError, BrokerUnavailableError, first_line
from sightstream.images.limits import Limits
from sightstream.images.store import Store
from sightstream.io import kafka, librdkafka
from streaming import checkpoint
from streaming.kafka.assignment import Assignment
from streaming.kafka.duplicates import Recent
from streaming.kafka.lag import Partition, Topic
from streaming.kafka.messages import Messages
from streaming.kafka.reader import AssignedMessages, contents
from streaming.kafka.values import PER_IMAGE, ROOM, Opened
from streaming.source import Tasks, Work

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.scoring.udf import Read
    from streaming.kafka.object_events import EventReader
    from streaming.observe.metrics import Metrics

log = logging.getLogger(__name__)

BATCH_BYTES = 512 * 2**20  # bytes of messages that a micro-batch aims to stay below
TYPICAL_BYTES = 64 * 2**10  # assumed bytes of a message while the topic has none
LOOK_SECONDS = 2.0  # between two looks at the lag


class KafkaSource:
    """A topic of images; see `streaming.source.Source` for the order of calls."""

    name = "kafka"
    left: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, topic: Topic, recent: Recent, metrics: Metrics, limits: Limits,
        uri_prefixes: Sequence[str], images_per_batch: int, max_offsets: int = 0,
        opened: Opened | None = None, reader: EventReader | None = None,
    ) -> None:  # fmt: skip
        """Compare the checkpoint with the broker; raises as `check` does, and if none answers.

        Images over `limits` are rejected before they are copied anywhere. A micro-batch has
        `images_per_batch` messages at most, fewer where they are large; or `max_offsets`, whatever
        their size. `opened` takes values apart that are no plain images; `reader` reads the objects
        that they tell of.
        """
        self.checkpoint = topic.checkpoint
        self._reader = reader
        if reader:
            reader.require_answers()
        self._topic = topic
        self._recent = recent
        self._metrics = metrics
        self._tasks = Tasks()
        messages = Messages(
            librdkafka.login(topic.broker), topic.name, topic.isolation, topic.fail_on_loss
        )
        most = limits.max_bytes * PER_IMAGE + ROOM if opened or reader else limits.max_bytes
        look = reader or partial(contents, Store(uri_prefixes, limits), opened)
        self.read: Read = AssignedMessages(messages, look, most)
        self._images_per_batch = images_per_batch
        self._max_offsets = max_offsets
        self._stands: list[Partition] = []
        self._suffix = ""
        self._first_look()
        self._committed = {each.number: each.committed for each in self._stands}

    @property
    def behind(self) -> int:
        """Messages that have no row yet, as of the last look at the broker."""
        return sum(max(0, s.end - self._committed.get(s.number, s.begin)) for s in self._stands)

    def events(self, session: SparkSession) -> DataFrame:
        """Return the messages as a stream, of which Spark needs the offsets alone."""
        if self.changed():
            self._recognise()
            self._stands = [replace(each, committed=each.begin) for each in self._stands]
            self._committed = {}
        return session.readStream.format("kafka").options(**self._options()).load()

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """Return one task for a few messages, else as many as there are cores."""
        found = self._topic.spans(batch_id)
        size = sum(each.size for each in found)
        number, tasks = self._tasks.of(size, batch.sparkSession)
        now = checkpoint.planned(self.checkpoint, batch_id)
        return Work(size, tasks, Assignment(self._suffix, now, number, found).text)

    def first(self, rows: pa.Table) -> pa.Table:
        """Leave out rows of messages that a producer sent twice."""
        left = self._recent.first(rows)
        self._metrics.of["duplicates"].inc(rows.num_rows - left.num_rows)
        return left

    def done(self, batch_id: int, images: int, rows: pa.Table | None) -> None:
        """Note the offsets of a micro-batch, and the ids of its rows."""
        self._committed = self._topic.committed_offsets(batch_id)
        if rows is not None:
            self._recent.remember(rows["event_id"].to_pylist())

    def drain(self) -> int:
        """Return the number of messages that are there now; later ones are left for later."""
        return self.behind

    def watch(self, stop: Event) -> None:
        """Look at the lag from now on, until `stop` is set."""
        Thread(target=self._watch, args=(stop,), name="lag", daemon=True).start()

    def changed(self) -> bool:
        """Return whether the topic was made anew.

        Raises:
            MessagesLostError: the same, where that must not be.
        """
        if not self._topic.is_anew(self._stands):
            return False
        self._topic.require_all(self._stands)
        return True

    def check(self) -> bool:
        """Return whether the broker answers, and no open transaction holds back what was read.

        So must the buckets of objects that messages tell of.

        Raises:
            MessagesLostError: the broker has deleted messages that were never read.
            TopicNotFoundError: the topic does not exist any more.
        """
        from kafka.errors import KafkaError

        if self._reader and not self._reader.check():
            return False
        try:
            with kafka.connect(self._topic.broker, timeout=0) as client:
                self._look(client)
        except BrokerRefusedError:
            return True
        except (BrokerUnavailableError, KafkaError):
            return False
        # As after a change of kafka_isolation_level. Spark would call that a loss.
        return not any(each.end < each.committed <= each.last for each in self._stands)

    def _first_look(self) -> None:
        from kafka.errors import KafkaError

        broker, deadline = self._topic.broker, time.monotonic() + kafka.ANSWER_SECONDS
        while True:
            try:
                with kafka.connect(broker) as client:
                    self._look(client)
                    self._recognise()
                    return self._look(client)
            except KafkaError as error:  # such as a partition that has no leader yet
                if time.monotonic() > deadline:
                    raise BrokerUnavailableError(
                        f"Kafka at {broker.servers} answers, but does not tell what topic "
                        f"{self._topic.name} holds ({first_line(error)}): see that each of its "
                        "partitions has a leader"
                    ) from error
            time.sleep(0.2)

    def _options(self) -> dict[str, str | int | bool]:
        topic = self._topic
        most = min(self._images_per_batch, max(1, int(BATCH_BYTES / self._bytes)))
        return {
            **kafka.spark_options(topic.broker),
            "subscribe": topic.name,
            "kafka.isolation.level": topic.isolation,
            "startingOffsets": "latest" if topic.from_end else "earliest",
            "failOnDataLoss": topic.fail_on_loss,
            "maxOffsetsPerTrigger": self._max_offsets or most,
        }

    def _recognise(self) -> None:
        """Note which topic of this name is read; one that was made anew from its beginning."""
        name, topic_id = self._topic.name, self._stands[0].topic_id
        if self._topic.is_anew(self._stands):
            self._topic.put_aside()
        self._topic.note(topic_id)
        # Places in a topic that was made anew must not be taken for those in the former one.
        first = not topic_id or self._recent.is_first(name, topic_id)
        self._suffix = "" if first else f"@{topic_id[:8]}"
        self._topic = replace(self._topic, from_end=self._topic.from_end and first)

    def _look(self, client: KafkaAdminClient) -> None:
        self._stands = self._topic.partitions(client)
        self._bytes = _mean_bytes(client, self._topic.name, self._stands)
        self._topic.require_all(self._stands)

    def _watch(self, stop: Event) -> None:
        seen = sum(stand.end for stand in self._stands)
        while not stop.is_set():
            try:
                with kafka.connect(self._topic.broker) as client:
                    while not stop.is_set():
                        seen = self._look_at_lag(client, seen)
                        stop.wait(LOOK_SECONDS)
            except Exception as error:  # the stream goes on without its lag
                log.warning("the lag is not known: %s", error)
            stop.wait(LOOK_SECONDS)

    def _look_at_lag(self, client: KafkaAdminClient, seen: int) -> int:
        self._stands = self._topic.partitions(client)
        ends = sum(stand.end for stand in self._stands)
        of, name = self._metrics.of, self._topic.name
        of["arrived_images"].labels(self.name).inc(max(0, ends - seen))
        seconds = self._topic.waiting_seconds(self._stands)
        for stand in self._stands:
            of["kafka_lag_records"].labels(name, stand.number).set(stand.lag)
            of["kafka_lag_seconds"].labels(name, stand.number).set(seconds[stand.number])
        return ends


def _mean_bytes(client: KafkaAdminClient, name: str, stands: list[Partition]) -> float:
    """Return the mean size of a message, from the size of the topic on the brokers' disks."""
    from kafka.errors import KafkaError

    weights: dict[int, int] = {}
    try:
        for broker in client.describe_log_dirs([name]):
            for folder in broker["log_dirs"]:
                for topic in folder["topics"]:
                    for each in topic["partitions"]:
                        number = each["partition_index"]
                        # Each replica holds the whole partition, or will.
                        weights[number] = max(weights.get(number, 0), each["partition_size"])
    except KafkaError as error:  # such as a missing right of this user
        log.info("the size of the topic is not known: %s", error)
    count = sum(each.end - each.begin for each in stands)
    return max(1024.0, sum(weights.values()) / count) if count and weights else TYPICAL_BYTES
