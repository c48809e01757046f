"""Messages become image events, whatever they hold: no content of a message raises an error."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import pyarrow as pa

from sightstream.images.event import CE_ID, CE_SOURCE, CE_SUBJECT, CE_TIME, SEPARATOR, URI
from sightstream.tables.schema import EVENT
from streaming.kafka.values import event_time

UNDATED = tuple(date(1970, 1, 1) + timedelta(n) for n in (-1, 0, 1))
"""Dates of messages without a time, or with one that is far from that of the stream: whenever they
are read, they get the epoch, or what they tell themselves within a day of it."""

_DAY = 86_400


class Message(NamedTuple):
    """A message, as the broker has it."""

    partition: int
    offset: int
    milliseconds: int
    """When the broker or the producer dated it, since the epoch; -1 for a message of old."""
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None]
    """Of several of one name the first."""


@dataclass(frozen=True)
class Places:
    """What the events of a micro-batch's messages have in common."""

    topic: str
    suffix: str
    """Follows the topic's name in the event ids of messages that bring none."""
    now: float
    """When the micro-batch was planned, in seconds since the epoch."""
    max_bytes: int
    """Of a message's value; larger ones are rejected."""

    def events(self, messages: Iterable[Message]) -> pa.Table:
        """Return the events of messages, with the schema `EVENT`.

        A header that is no UTF-8 or too long counts as missing.
        """
        # Rows are partitioned by day: a wrong clock must not spread them over thousands. Nor must
        # the day of a row hang on when its message is read: that is how it is found again.
        today = self.now // _DAY * _DAY
        days = today - 366 * _DAY, today + 2 * _DAY
        columns = zip(*(self._event(each, *days) for each in messages), strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, EVENT)]  # noqa: B905
        return pa.Table.from_arrays(arrays, schema=EVENT) if arrays else EVENT.empty_table()

    def _event(self, message: Message, earliest: float, latest: float) -> tuple[object, ...]:
        number, offset, milliseconds, key, value, headers = message
        size, seconds = len(value) if value else 0, milliseconds / 1000
        at = f"{number}/{offset}"
        place = f"{self.topic}/{at}"
        claim = None if size else _text(headers.get(URI), 4096)
        code = detail = None
        if not size and claim is None:
            code, detail = "empty", "The message has no bytes, and no uri header."
        elif size > self.max_bytes:
            code, detail = "too_large", f"{size:,} bytes; the limit is {self.max_bytes:,}."
        return (
            _event_id(headers) or f"{self.topic}{self.suffix}/{at}",
            "kafka",
            claim or f"kafka://{place}",
            _text(headers.get(CE_SUBJECT), 4096) or _text(key, 4096) or place,
            _time(headers.get(CE_TIME), seconds if earliest <= seconds <= latest else 0.0),
            size,
            code,
            detail,
        )


def _event_id(headers: Mapping[str, bytes | None]) -> str | None:
    """The id of a message, after that of its source if it names one; None where it has no id."""
    own, raw = _text(headers.get(CE_ID), 255), headers.get(CE_SOURCE)
    if not own or not raw:
        return own
    source = _text(raw, 1024)
    # The hash stands for a source that could be mistaken for another.
    if source is None or SEPARATOR in source:
        source = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return f"{source}{SEPARATOR}{own}"


def _time(raw: bytes | None, received: float) -> float:
    text = _text(raw, 64)
    return event_time({"time": text}, received) if text else received


def _text(raw: bytes | None, most: int) -> str | None:
    """Bytes as text; None where they are no UTF-8, empty or too long."""
    if not raw or len(raw) > 4 * most:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if len(text) <= most else None
