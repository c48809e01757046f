"""Kafka as a source: messages become image events in Spark's JVM, whatever they hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from threading import Event, Thread
from typing import TYPE_CHECKING

import pyarrow as pa

from sightstream.config import Settings
from sightstream.errors import BrokerRefusedError, BrokerUnavailableError, MessagesLostError
from sightstream.images.event import CE_ID, CE_SUBJECT, CE_TIME, URI
from sightstream.images.store import Claims
from sightstream.io import kafka
from sightstream.scoring.udf import Piece, Read
from streaming.folder.manifests import EVENT
from streaming.folder.source import Work
from streaming.folder.tasks import SMALL
from streaming.kafka.duplicates import Recent

if TYPE_CHECKING:
    import pandas as pd
    from kafka.admin import KafkaAdminClient
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.tables.predictions import Predictions
    from streaming.observe.metrics import Metrics

log = logging.getLogger(__name__)

MEMORY = 512 * 2**20
"""The bytes of messages that a micro-batch aims to stay below."""

TYPICAL = 64 * 2**10
"""The bytes of a message while the topic has none."""

INTERVAL = 2.0
"""Seconds between two looks at the lag."""


class Messages:
    """The topic, as `job` sees each of its sources."""

    name = "kafka"

    def __init__(self, settings: Settings, table: Predictions, metrics: Metrics) -> None:
        """Looks at the topic.

        Args:
            settings: the broker, the topic, the limits.
            table: what the ids of messages are compared with.
            metrics: gets the lag.

        Raises:
            BrokerUnavailableError: no broker answers, or it refuses us.
            TopicNotFoundError: there is no such topic.
            MessagesLostError: the broker has deleted what was not read.
        """
        self.checkpoint = kafka.checkpoint_of(settings)
        self.read: Read = Contents(Claims(settings.kafka_uri_prefixes, settings.limits))
        self._settings = settings
        self._metrics = metrics
        self._recent = Recent(table, self.name)
        with kafka.connect(settings) as client:
            self._look(client)
        self._committed = {each.number: each.committed for each in self._stands}

    @property
    def behind(self) -> int:
        """Messages that have no row yet, as of the last look."""
        return sum(max(0, s.end - self._committed.get(s.number, s.begin)) for s in self._stands)

    def events(self, session: SparkSession) -> DataFrame:
        """A streaming DataFrame of events, and their content."""
        settings = self._settings
        cores = session.sparkContext.defaultParallelism
        most = min(settings.images_per_batch, max(1, int(MEMORY / self._bytes)))
        options = {
            **kafka.spark_options(settings),
            "subscribe": settings.kafka_topic,
            "includeHeaders": True,
            "startingOffsets": settings.kafka_starting_offsets,
            # A task that asks at the end of a partition would wait for half a second.
            "kafka.fetch.max.wait.ms": 10,
            # Kafka's own are made for small messages: 40 images a request, and a small window.
            "kafka.max.partition.fetch.bytes": 8 * 2**20,
            "kafka.receive.buffer.bytes": 2**20,
            "failOnDataLoss": settings.kafka_fail_on_data_loss,
            "maxOffsetsPerTrigger": settings.kafka_max_offsets or most,
        }
        if len(self._stands) < cores:
            options["minPartitions"] = cores
        messages = session.readStream.format("kafka").options(**options).load()
        return events(messages, settings.max_image_bytes)

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """One task for a few messages, else as Spark has divided the micro-batch."""
        ends = kafka.committed_offsets(self._settings, batch_id)
        size = sum(end - self._committed.get(number, 0) for number, end in ends.items())
        return Work(size, batch.coalesce(1) if size < SMALL else batch)

    def first(self, rows: pa.Table) -> pa.Table:
        """Leaves out what a producer sent twice."""
        left = self._recent.first(rows)
        self._metrics.doubled(rows.num_rows - left.num_rows)
        return left

    def done(self, batch_id: int, images: int, rows: pa.Table | None) -> None:
        """Notes that a micro-batch is in the table."""
        self._committed = kafka.committed_offsets(self._settings, batch_id)
        if rows is not None:
            self._recent.remember(rows["event_id"].to_pylist())

    def drain(self) -> int:
        """The messages that are there now; what comes later is left for later."""
        return self.behind

    def watch(self, stop: Event) -> None:
        """Looks at the lag from now on, until `stop` is set."""
        Thread(target=self._watch, args=(stop,), name="lag", daemon=True).start()

    def check(self) -> bool:
        """Whether the broker is there, so that a failure is not its absence.

        Raises:
            MessagesLostError: it has deleted what was not read.
            TopicNotFoundError: the topic is gone.
        """
        from kafka.errors import KafkaError

        try:
            with kafka.connect(self._settings, timeout=0) as client:
                self._look(client)
        except BrokerRefusedError:
            return True
        except (BrokerUnavailableError, KafkaError):
            return False
        return True

    def _look(self, client: KafkaAdminClient) -> None:
        self._stands = kafka.partitions(client, self._settings)
        self._bytes = _mean_bytes(client, self._settings, self._stands)
        if fault := kafka.loss(self._settings, self._stands):
            raise MessagesLostError(fault)

    def _watch(self, stop: Event) -> None:
        seen = sum(stand.end for stand in self._stands)
        while not stop.is_set():
            try:
                with kafka.connect(self._settings) as client:
                    while not stop.is_set():
                        self._stands = kafka.partitions(client, self._settings)
                        ends = sum(stand.end for stand in self._stands)
                        self._metrics.arrived(self.name, max(0, ends - seen))
                        seen = ends
                        seconds = kafka.waiting_seconds(self._settings, self._stands)
                        self._metrics.lag(self._settings.kafka_topic, self._stands, seconds)
                        stop.wait(INTERVAL)
            except BrokerUnavailableError as error:
                log.warning("%s", error)
            except Exception as error:  # the stream goes on without a look at its lag
                log.warning("the lag is not known: %s", error)
            stop.wait(INTERVAL)


class Contents:
    """From rows of `events` to their images; goes to the workers with the UDF."""

    def __init__(self, claims: Claims) -> None:
        """Remembers what reads the images that messages do not carry."""
        self._claims = claims

    def __call__(self, rows: pd.DataFrame, _told: str) -> Iterator[Piece]:
        """The events of the messages, and what they carry or claim."""
        # Columns of pandas 3 hold NaN where a text is missing, those of Arrow None.
        found = pa.Table.from_pandas(rows, EVENT, preserve_index=False)
        fields = (found["error_code"].to_pylist(), found["uri"].to_pylist(), rows["content"])
        # Rows that the driver takes from Spark hold bytearrays.
        images = [
            None if code is not None else self._claims(uri) if content is None else bytes(content)
            for code, uri, content in zip(*fields, strict=True)
        ]
        yield found, images


def events(messages: DataFrame, max_bytes: int) -> DataFrame:
    """Kafka's columns as those of an event, and `content`.

    Args:
        messages: as Spark's Kafka source gives them, with headers.
        max_bytes: larger ones are rejected, before they are copied anywhere.

    Returns:
        The columns of `manifests.EVENT`, and `content`: the image, null where there is none to
        decode. A header that is no UTF-8, too long or not there counts as not there; of several
        with one name the first counts.
    """
    place = "concat_ws('/', topic, partition, offset)"
    today = "date_trunc('DAY', current_timestamp())"
    # One map, since a look through the list for each name costs more than reading the message.
    mapped = messages.selectExpr("*", "map_from_entries(reverse(headers)) AS said")
    named = mapped.selectExpr(
        "value",
        f"{place} AS place",
        f"{_header(CE_ID, 255)} AS id",
        f"{_header(URI, 4096)} AS claim",
        f"{_header(CE_SUBJECT, 4096)} AS subject",
        f"{_text('key', 4096)} AS named",
        f"try_to_timestamp({_header(CE_TIME, 64)}) AS sent",
        "coalesce(length(value), 0L) AS size",
        # Rows are partitioned by day: a clock that is wrong must not spread them over thousands.
        # The day alone, since Spark compiles the code anew for each other constant in it.
        f"greatest(least(timestamp, {today} + INTERVAL 2 DAY), {today} - INTERVAL 366 DAY) AS told",
    )
    judged = named.selectExpr(
        "*",
        "CASE WHEN size = 0 AND claim IS NULL THEN 'empty' "
        f"WHEN size > {max_bytes} THEN 'too_large' END AS error_code",
        "CASE WHEN sent BETWEEN told - INTERVAL 1 DAY AND told + INTERVAL 1 DAY THEN sent "
        "ELSE told END AS time",
    )
    columns = {
        "event_id": "coalesce(id, place)",
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
    assert list(columns) == EVENT.names  # noqa: S101
    return judged.selectExpr(
        *(f"{expression} AS {name}" for name, expression in columns.items()),
        "CASE WHEN size > 0 AND error_code IS NULL THEN value END AS content",
    )


def _header(name: str, most: int) -> str:
    return _text(f"try_element_at(said, '{name}')", most)


def _text(binary: str, most: int) -> str:
    """Bytes as text; null where they are no UTF-8, empty, or of more characters than allowed."""
    text = f"try_validate_utf8(CAST({binary} AS STRING))"
    fits = f"length({binary}) <= {4 * most} AND length({text}) BETWEEN 1 AND {most}"
    return f"CASE WHEN {fits} THEN {text} END"


def _mean_bytes(
    client: KafkaAdminClient, settings: Settings, stands: list[kafka.Partition]
) -> float:
    """The mean size of a message, from what the topic weighs on the brokers' disks."""
    from kafka.errors import KafkaError

    weights: dict[int, int] = {}
    try:
        for broker in client.describe_log_dirs([settings.kafka_topic]):
            for folder in broker["log_dirs"]:
                for topic in folder["topics"]:
                    for each in topic["partitions"]:
                        number = each["partition_index"]
                        # Each replica has it whole, or is about to.
                        weights[number] = max(weights.get(number, 0), each["partition_size"])
    except KafkaError as error:  # such as a right that this user has not
        log.info("the size of the topic is not known: %s", error)
    count = sum(each.end - each.begin for each in stands)
    return max(1024.0, sum(weights.values()) / count) if count and weights else TYPICAL
