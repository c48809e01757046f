"""Publish each new row of the table as JSON to a Kafka topic, at least once, whatever crashes.

The last version of the table whose rows were all acknowledged is recorded in a file.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from sightstream.config import Broker
from sightstream.errors import BrokerUnavailableError
from sightstream.io import disk, kafka
from sightstream.tables import predictions

if TYPE_CHECKING:
    from kafka import KafkaProducer

log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]

LOOK_SECONDS = 0.05  # between two looks at the table
RETRY_SECONDS = 2.0  # until a failed broker is tried again, or a missing version is looked for
LEAVE_SECONDS = 30.0  # for sending the last rows at the end; the next start sends the rest
OVERLAP = timedelta(minutes=10)  # sent again after a merge, since a row is older than its version


@dataclass(frozen=True)
class Position:
    """Position of the topic in the table: all rows up to its version were acknowledged.

    While those of later versions are read in order of time, so were all up to `processed_at`.
    """

    topic: str
    version: int
    processed_at: float  # that of the newest of them, in seconds since the epoch


class Publisher:
    """Publishes the rows of a table to a topic."""

    def __init__(self, broker: Broker, topic: str, table: str, position: Path) -> None:
        """Create the topic where it does not exist, and find the position in the table.

        At the first start the position, which is recorded in that file, is the end of the table.

        Raises:
            BrokerUnavailableError: no broker answers, or it refuses us or the topic.
        """
        self._broker = broker
        self._topic = topic
        self._table = table
        self._file = position
        self._producer: KafkaProducer | None = None
        _require(broker, topic)
        self._remember(
            self._remembered() or Position(topic, predictions.opened(table).version(), time.time())
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Publish new rows until the block ends, and then those that are left."""
        stop = Event()
        thread = Thread(target=self.run, args=(stop,), name="publisher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(LEAVE_SECONDS)

    def run(self, stop: Event) -> None:
        """Follow the table until `stop` is set, and then to its end."""
        looked = time.monotonic()
        while True:
            try:
                # Read first: rows that were committed before `stop` was set must still be found.
                ended = stop.is_set()
                found = False
                for position, rows in self._next(
                    missing=ended or time.monotonic() - looked > RETRY_SECONDS
                ):
                    self._send(position, rows)
                    found, looked = True, time.monotonic()
                if not found:
                    if ended:
                        break
                    stop.wait(LOOK_SECONDS)
            except Exception as error:  # the rows are safe in the table, and sent later
                log.warning("rows wait to be published, and are tried again: %s", error)
                self._close()
                if stop.wait(RETRY_SECONDS):
                    break
        self._close()

    def _next(self, *, missing: bool) -> Iterator[tuple[Position, Rows]]:
        """Yield the next rows with the position after them; none where there is no newer version.

        Where `missing`, look whether the next version's log entry was removed.
        """
        number = self._position.version + 1
        try:
            rows = predictions.added(self._table, number)
        except FileNotFoundError:
            rows, missing = None, True
        if rows is not None:
            yield self._after(number, rows), rows
        elif missing and (newest := predictions.version_of(self._table)) >= number:
            log.info("versions %d to %d of the table were merged", number, newest)
            moment = datetime.fromtimestamp(self._position.processed_at, UTC) - OVERLAP
            for part in predictions.since(self._table, moment):
                yield self._after(self._position.version, part), part
            yield self._after(newest, []), []

    def _after(self, version: int, rows: Rows) -> Position:
        newest = max((row["processed_at"].timestamp() for row in rows), default=0.0)
        return Position(self._topic, version, max(self._position.processed_at, newest))

    def _send(self, position: Position, rows: Rows) -> None:
        from kafka import KafkaProducer

        if rows:
            producer = self._producer = self._producer or KafkaProducer(
                **kafka.client_options(self._broker),
                enable_idempotence=True, acks="all", linger_ms=5,
            )  # fmt: skip
            sent = [
                producer.send(
                    self._topic, json.dumps(row, default=str).encode(), row["event_id"].encode()
                )
                for row in rows
            ]
            producer.flush()
            for each in sent:
                each.get(timeout=0)
        self._remember(position)

    def _close(self) -> None:
        if self._producer:
            self._producer.close(timeout=1)
            self._producer = None

    def _remembered(self) -> Position | None:
        try:
            position = disk.noted(self._file, Position)
        except FileNotFoundError:
            return None
        except ValueError:
            log.error("%s is damaged: all rows are published again", self._file)
            return Position(self._topic, -1, 0.0)
        return position if position.topic == self._topic else None

    def _remember(self, position: Position) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        disk.replace(self._file, json.dumps(vars(position)).encode())
        self._position = position


def _require(broker: Broker, topic: str) -> None:
    """Create the topic where it does not exist, with the broker's default of partitions."""
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    with kafka.connect(broker) as client:
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
