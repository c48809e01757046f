"""Each new row of the table as JSON in a Kafka topic, at least once, whatever crashes.

It follows the table's versions, so that it never tells a row that the table lacks, and remembers
the last one whose rows were all acknowledged.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from sightstream.config import Settings
from sightstream.errors import BrokerUnavailableError
from sightstream.io import kafka
from sightstream.tables import predictions

if TYPE_CHECKING:
    from kafka import KafkaProducer

log = logging.getLogger(__name__)

INTERVAL = 0.05
"""Seconds between two looks at the table."""

PAUSE = 2.0
"""Seconds until a broker that failed is tried again, or a version that is late is looked for."""

LAST = 30.0
"""Seconds that the last rows are given when the stream ends; the next start sends the rest."""

OVERLAP = timedelta(minutes=10)
"""What is sent again where versions are gone: rows are made a moment before they are committed."""


@dataclass(frozen=True)
class Place:
    """How far the topic has been told.

    Attributes:
        topic: its name.
        version: of the table; all rows up to it were acknowledged.
        processed_at: the newest of these rows, in seconds since the epoch.
    """

    topic: str
    version: int
    processed_at: float


@contextmanager
def publishing(settings: Settings) -> Iterator[None]:
    """Sends new rows until the block ends, and then those that are left.

    Raises:
        BrokerUnavailableError: no broker answers, it refuses us, or the topic cannot be created.
    """
    publisher = Publisher(settings)
    stop = Event()
    thread = Thread(target=publisher.run, args=(stop,), name="publisher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LAST)


class Publisher:
    """Sends the rows of a table to a topic."""

    def __init__(self, settings: Settings) -> None:
        """Finds its place; at the first start this is the table as it is.

        Raises:
            BrokerUnavailableError: see `publishing`.
        """
        self._settings = settings
        self._topic = settings.kafka_predictions_topic
        self._table = settings.predictions
        self._file = settings.root / "checkpoints" / "predictions-topic.json"
        self._producer: KafkaProducer | None = None
        _require(settings, self._topic)
        self._place = self._remembered() or Place(
            self._topic, predictions.current_version(self._table), time.time()
        )
        self._remember(self._place)

    def run(self, stop: Event) -> None:
        """Follows the table until told to stop, and then to its end."""
        looked = time.monotonic()
        while True:
            try:
                # What is committed before the end is to be seen after it.
                ended = stop.is_set()
                rows = self._next(missing=ended or time.monotonic() - looked > PAUSE)
                if rows is not None:
                    self._send(rows)
                    looked = time.monotonic()
                elif ended:
                    break
                else:
                    stop.wait(INTERVAL)
            except Exception as error:  # the table has the rows: they are sent when it can be
                log.warning("rows wait to be published, and are tried again: %s", error)
                self._close()
                if stop.wait(PAUSE):
                    break
        self._close()

    def _next(self, *, missing: bool) -> tuple[Place, list[dict[str, Any]]] | None:
        """The next rows, and the place after them; None where there is no newer version.

        Args:
            missing: find out whether the next version is not there because its log entry is gone.
        """
        number = self._place.version + 1
        try:
            rows = predictions.added(self._table, number)
        except FileNotFoundError:
            rows, missing = None, True
        if rows is None and missing:
            newest = predictions.current_version(self._table)
            if newest >= number:
                log.info("versions %d to %d of the table were merged", number, newest)
                moment = datetime.fromtimestamp(self._place.processed_at, UTC) - OVERLAP
                number, rows = newest, predictions.since(self._table, moment)
        if rows is None:
            return None
        newest_row = max((row["processed_at"].timestamp() for row in rows), default=0.0)
        return Place(self._topic, number, max(self._place.processed_at, newest_row)), rows

    def _send(self, found: tuple[Place, list[dict[str, Any]]]) -> None:
        place, rows = found
        if rows:
            producer = self._producer = self._producer or _producer(self._settings)
            sent = [
                producer.send(
                    self._topic, json.dumps(row, default=str).encode(), row["event_id"].encode()
                )
                for row in rows
            ]
            producer.flush()
            for each in sent:
                each.get(timeout=0)
        self._remember(place)

    def _close(self) -> None:
        if self._producer:
            self._producer.close(timeout=1)
            self._producer = None

    def _remembered(self) -> Place | None:
        try:
            place = Place(**json.loads(self._file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            log.error("%s is damaged: all rows are published again", self._file)
            return Place(self._topic, -1, 0.0)
        return place if place.topic == self._topic else None

    def _remember(self, place: Place) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        aside = self._file.with_suffix(".new")
        with aside.open("w") as file:
            json.dump(vars(place), file)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self._file)
        self._place = place


def _producer(settings: Settings) -> KafkaProducer:
    from kafka import KafkaProducer

    return KafkaProducer(
        **kafka.client_options(settings), enable_idempotence=True, acks="all", linger_ms=5
    )


def _require(settings: Settings, topic: str) -> None:
    """Creates the topic where there is none, with the partitions that the broker gives to any."""
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    with kafka.connect(settings) as client:
        if kafka.exists(client, topic):
            return
        try:
            client.create_topics([topic])
        except TopicAlreadyExistsError:
            return
        except KafkaError as error:
            raise BrokerUnavailableError(
                f"Kafka has no topic {topic!r} and does not let us create it ({error}); create it, "
                "or give its user the right to"
            ) from None
