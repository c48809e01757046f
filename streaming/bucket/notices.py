"""Notifications of an object store in a Kafka topic, in the form of S3's events.

They tell the intake which keys to look at, and no more: it asks the store what is there, and knows
what it has taken. So one that is lost, late, doubled, out of order or false does no harm; the full
listings find what no notification told.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from sightstream.config import Broker
from sightstream.errors import BrokerUnavailableError
from sightstream.io import kafka

if TYPE_CHECKING:
    from kafka import KafkaConsumer

log = logging.getLogger(__name__)

_WRAPPINGS = ("Records", "Message", "Body", "body", "value", "payload")
"""Fields that hold events: S3's own, and those of queues and bridges, mostly as JSON in a text."""

_ENCODED = re.compile(r"[A-Za-z0-9_.~*/%+!'(),:@$-]*")
"""Keys as S3 encodes them; what has other characters is of a store that does not."""

_DEPTH = 6  # of wrappings in wrappings
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
    """Return the keys that a message tells of, but for removed ones and those of other buckets.

    S3 encodes them as forms do, EventBridge does not.
    """
    return list(dict.fromkeys(_keys(value or b"", bucket, _DEPTH)))


def _keys(said: Any, bucket: str, depth: int) -> Iterator[str]:
    if isinstance(said, (str, bytes)):
        try:
            said = json.loads(said)
        except (ValueError, RecursionError):
            return
    if isinstance(said, list) and depth:
        for each in said:
            yield from _keys(each, bucket, depth - 1)
    if not isinstance(said, dict) or not depth:
        return
    event, plain = said.get("s3"), said.get("detail")
    if isinstance(event, dict):
        for key in _of_event(str(said.get("eventName")), event, bucket):
            yield unquote_plus(key) if _ENCODED.fullmatch(key) else key
        return
    if isinstance(plain, dict):
        yield from _of_event(str(said.get("detail-type")), plain, bucket)
        return
    for each in _WRAPPINGS:
        if isinstance(said.get(each), (str, list, dict)):
            yield from _keys(said[each], bucket, depth - 1)


def _of_event(name: str, event: dict[str, Any], bucket: str) -> Iterator[str]:
    place, found = event.get("bucket"), event.get("object")
    if not (isinstance(place, dict) and isinstance(found, dict)) or place.get("name") != bucket:
        return
    key = found.get("key")
    if isinstance(key, str) and key and "Removed" not in name and "Delete" not in name:
        yield key
