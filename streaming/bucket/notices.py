"""Notifications of an object store in a Kafka topic, in the form of S3's events.

They tell the intake which keys to look at, and no more: it asks the store what is there, and knows
what it has taken. So one that is lost, late, doubled, out of order or false does no harm; the full
listings find what no notification told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from sightstream.config import Broker
from sightstream.errors import BrokerUnavailableError
from sightstream.io import kafka
from streaming.bucket.events import told

if TYPE_CHECKING:
    from kafka import KafkaConsumer

log = logging.getLogger(__name__)

_START_SECONDS = 10.0


class Notices:
    """The notifications about one bucket, from now on."""

    def __init__(self, broker: Broker, topic: str, bucket: str) -> None:
        """Begin at the end of the topic; raises as `kafka.connect` and `require_topics` do."""
        self._broker = broker
        self._topic = topic
        self._bucket = bucket
        self._away = False
        with kafka.connect(broker) as client:
            kafka.require_topics(client, topic)
        self._consumer: KafkaConsumer | None = self._opened()

    def __call__(self, seconds: float) -> Sequence[str]:
        """Wait for notifications, for some seconds at most; return keys, each once."""
        from kafka.errors import KafkaError

        try:
            self._consumer = self._consumer or self._opened()
            found = self._consumer.poll(timeout_ms=int(1000 * seconds), max_records=5000)
        except (KafkaError, BrokerUnavailableError, OSError) as error:
            if not self._away:
                log.warning("notifications wait for Kafka, listings go on: %s", error)
            self._away = True
            self._close()
            time.sleep(seconds)
            return ()
        self._away = False
        values = (message.value for part in found.values() for message in part)
        return list(dict.fromkeys(key for value in values for key in keys(value, self._bucket)))

    def _opened(self) -> KafkaConsumer:
        from kafka import KafkaConsumer

        with kafka.connect(self._broker, timeout=0):
            pass  # which tells why none answers
        consumer = KafkaConsumer(
            self._topic, **kafka.client_options(self._broker), group_id=None,
            enable_auto_commit=False, auto_offset_reset="latest",
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while not consumer.assignment() and time.monotonic() < deadline:
            consumer.poll(timeout_ms=100)
        for part in consumer.assignment():
            consumer.position(part)  # so that what comes from now on is read
        return consumer

    def _close(self) -> None:
        if self._consumer:
            with suppress(Exception):
                self._consumer.close()
        self._consumer = None


def keys(value: bytes | None, bucket: str) -> list[str]:
    """Return the keys that a message tells of, but for removed ones and those of other buckets."""
    found = (
        each.key for each in told(value)
        if each.key and each.bucket == bucket and not each.is_removal
    )  # fmt: skip
    return list(dict.fromkeys(found))
