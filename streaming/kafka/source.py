"""Kafka as a source: messages become image events in Spark's JVM, whatever they hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Event, Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sightstream.errors import BrokerRefusedError, BrokerUnavailableError
from sightstream.images.event import CE_ID, CE_SOURCE, CE_SUBJECT, CE_TIME, SEPARATOR, URI
from sightstream.images.limits import Limits
from sightstream.images.store import Image, Store
from sightstream.io import kafka
from sightstream.tables.schema import EVENT
from streaming.kafka.duplicates import Recent
from streaming.kafka.lag import Partition, Topic
from streaming.kafka.values import PER_IMAGE, ROOM, Opened, event_id, event_time, subject
from streaming.source import SMALL, Work

if TYPE_CHECKING:
    import pandas as pd
    from kafka.admin import KafkaAdminClient
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.scoring.framed import Piece
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
        self.read: Read = reader or partial(contents, Store(uri_prefixes, limits), opened)
        self._reader = reader
        if reader:
            reader.require_answers()
        self._topic = topic
        self._recent = recent
        self._metrics = metrics
        self._max_bytes = limits.max_bytes
        if opened or reader:
            self._max_bytes = limits.max_bytes * PER_IMAGE + ROOM
        self._images_per_batch = images_per_batch
        self._max_offsets = max_offsets
        self._stands: list[Partition] = []
        self._suffix = ""
        with kafka.connect(topic.broker) as client:
            self._look(client)
            self._recognise()
            self._look(client)
        self._committed = {each.number: each.committed for each in self._stands}

    @property
    def behind(self) -> int:
        """Messages that have no row yet, as of the last look at the broker."""
        return sum(max(0, s.end - self._committed.get(s.number, s.begin)) for s in self._stands)

    def events(self, session: SparkSession) -> DataFrame:
        """Return the messages as a stream of events, with the content that they carry."""
        if self.changed():
            self._recognise()
            self._stands = [replace(each, committed=each.begin) for each in self._stands]
            self._committed = {}
        options = self._options(session.sparkContext.defaultParallelism)
        messages = session.readStream.format("kafka").options(**options).load()
        return events(messages, self._max_bytes, self._suffix)

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """Return one task for a few messages, else as Spark has divided the micro-batch."""
        ends = self._topic.committed_offsets(batch_id)
        size = sum(end - self._committed.get(number, 0) for number, end in ends.items())
        return Work(size, batch.coalesce(1) if size < SMALL else batch)

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

    def _options(self, cores: int) -> dict[str, str | int | bool]:
        topic = self._topic
        most = min(self._images_per_batch, max(1, int(BATCH_BYTES / self._bytes)))
        return {
            **kafka.spark_options(topic.broker),
            "subscribe": topic.name,
            "kafka.isolation.level": topic.isolation,
            "includeHeaders": True,
            "startingOffsets": "latest" if topic.from_end else "earliest",
            # A task that asks at the end of a partition would wait for half a second.
            "kafka.fetch.max.wait.ms": 10,
            # Kafka's defaults are for small messages: 40 images a request, and a small window.
            "kafka.max.partition.fetch.bytes": 8 * 2**20,
            "kafka.receive.buffer.bytes": 2**20,
            "failOnDataLoss": topic.fail_on_loss,
            "maxOffsetsPerTrigger": self._max_offsets or most,
            **({"minPartitions": cores} if len(self._stands) < cores else {}),
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


def contents(
    store: Store, opened: Opened | None, rows: pd.DataFrame, _assignment: str
) -> Iterator[Piece]:
    """Yield, in a worker, the events of rows of `events`, and the images they carry or claim."""
    # In Arrow, since a missing text is None or NaN in pandas, as its version has it.
    events = pa.Table.from_pandas(rows, EVENT, preserve_index=False)
    codes, uris = (events[name].to_pylist() for name in ("error_code", "uri"))
    # Rows that the driver takes from Spark hold bytearrays.
    values = [None if content is None else bytes(content) for content in rows["content"]]
    carried: Sequence[Image | None] = values
    if opened:
        bodies = [None if value is None else opened(value) for value in values]
        events = _as_told(events, [body.event if body else None for body in bodies])
        carried = [body.image if body else None for body in bodies]
    images = [
        None if code is not None else store(uri) if content is None else content
        for code, uri, content in zip(codes, uris, carried, strict=True)
    ]
    yield events, images


def _as_told(events: pa.Table, told: Sequence[Mapping[str, Any] | None]) -> pa.Table:
    """Return the events with the ids, times and subjects that CloudEvents in messages have."""
    rows = events.to_pylist()
    for row, event in zip(rows, told, strict=True):
        if event:
            row["event_id"] = event_id(event) or row["event_id"]
            row["event_time"] = event_time(event, row["event_time"])
            row["original_name"] = subject(event) or row["original_name"]
    return pa.Table.from_pylist(rows, EVENT)


def events(messages: DataFrame, max_bytes: int, suffix: str = "") -> DataFrame:
    """Return the columns of `schema.EVENT`, and `content`: the image, null where none is decoded.

    Messages come as Spark's Kafka source returns them, with headers. A header that is no UTF-8 or
    too long counts as missing; of several with one name the first counts. `suffix` follows the
    topic's name in the event ids of messages that bring none.
    """
    place = "concat_ws('/', topic, partition, offset)"
    today = "date_trunc('DAY', current_timestamp())"
    latest, earliest = f"{today} + INTERVAL 2 DAY", f"{today} - INTERVAL 366 DAY"
    # One map: searching the list for each name costs more than reading the message.
    mapped = messages.selectExpr("*", "map_from_entries(reverse(headers)) AS header")
    named = mapped.selectExpr(
        "value",
        f"{place} AS place",
        f"concat_ws('/', concat(topic, '{suffix}'), partition, offset) AS own",
        f"{_header(CE_ID, 255)} AS id",
        f"{_sender()} AS sender",
        f"{_header(URI, 4096)} AS claim",
        f"{_header(CE_SUBJECT, 4096)} AS subject",
        f"{_text('key', 4096)} AS named",
        f"try_to_timestamp({_header(CE_TIME, 64)}) AS sent",
        "coalesce(length(value), 0L) AS size",
        # Rows are partitioned by day: a wrong clock must not spread them over thousands. The day
        # alone, since Spark compiles the code anew for each new constant in it.
        f"greatest(least(timestamp, {latest}), {earliest}) AS received",
    )
    judged = named.selectExpr(
        "*",
        "CASE WHEN size = 0 AND claim IS NULL THEN 'empty' "
        f"WHEN size > {max_bytes} THEN 'too_large' END AS error_code",
        "CASE WHEN sent BETWEEN received - INTERVAL 1 DAY AND received + INTERVAL 1 DAY "
        "THEN sent ELSE received END AS time",
    )
    columns = {
        "event_id": "coalesce("
        f"CASE WHEN sender IS NULL THEN id ELSE concat(sender, '{SEPARATOR}', id) END, own)",
        "source": "'kafka'",
        "uri": "CASE WHEN size = 0 AND claim IS NOT NULL THEN claim "
        "ELSE concat('kafka://', place) END",
        "original_name": "coalesce(subject, named, place)",
        "event_time": "unix_micros(time) / 1e6D",
        "bytes": "size",
        "error_code": "error_code",
        "error_detail": "CASE error_code "
        "WHEN 'empty' THEN 'The message has no bytes, and no uri header.' WHEN 'too_large' THEN "
        f"concat(format_number(size, 0), ' bytes; the limit is {max_bytes:,}.') END",
    }
    return judged.selectExpr(
        *(f"{columns[name]} AS {name}" for name in EVENT.names),
        "CASE WHEN size > 0 AND error_code IS NULL THEN value END AS content",
    )


def _sender() -> str:
    """Return SQL for the source of a message; null where it names none.

    Its hash stands for a source that could be mistaken for another: one that has the separator
    in it, is no UTF-8, or is too long.
    """
    raw = f"try_element_at(header, '{CE_SOURCE}')"
    text = _text(raw, 1024)
    return (
        f"CASE WHEN length({raw}) > 0 THEN CASE WHEN instr({text}, '{SEPARATOR}') = 0 THEN {text} "
        f"ELSE concat('sha256:', sha2({raw}, 256)) END END"
    )


def _header(name: str, most: int) -> str:
    return _text(f"try_element_at(header, '{name}')", most)


def _text(binary: str, most: int) -> str:
    """Return SQL for bytes as text; null where they are no UTF-8, empty or too long."""
    text = f"try_validate_utf8(CAST({binary} AS STRING))"
    fits = f"length({binary}) <= {4 * most} AND length({text}) BETWEEN 1 AND {most}"
    return f"CASE WHEN {fits} THEN {text} END"


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
