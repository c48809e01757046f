"""An image event, and its encoding as the headers of a Kafka message."""

import mimetypes
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

# CloudEvents 1.0, Kafka protocol binding, binary mode: the message's value is the image.
CONTENT_TYPE = "content-type"
CE_ID = "ce_id"
CE_SOURCE = "ce_source"
CE_TIME = "ce_time"
CE_SUBJECT = "ce_subject"
"""Header of the original name."""

SEPARATOR = "#"
"""Stands between source and id in the event id of a message that has both."""

URI = "uri"
"""Header of a claim check: the message has no value, and the image lies at this uri."""

Headers = list[tuple[str, bytes]]

_TICKS = 1000 << 12  # of an event id's time, in a second


@dataclass  # a frozen one takes four times as long to make, for each image
class ImageEvent:
    """An image that arrived."""

    event_id: str  # UUID version 7: unique, and sorted by the time of arrival
    source: str  # "folder", or the sender of a message
    uri: str  # place of its bytes; empty where a message holds them
    original_name: str  # path below the inbox, with "/" between folders
    event_time: float  # seconds since the epoch
    bytes: int  # size of the file
    error_code: str | None = None  # set where the arrival itself was refused, as for a symlink
    error_detail: str | None = None

    @property
    def message_id(self) -> str:
        """The event id of the row that a message with these headers gets."""
        return f"{self.source}{SEPARATOR}{self.event_id}"

    def to_headers(self) -> Headers:
        """Return the headers of a Kafka message; without a `uri` the image is its value."""
        when = datetime.fromtimestamp(self.event_time, UTC)
        suffix = PurePosixPath(self.original_name).suffix
        kind = mimetypes.guess_type(f"image{suffix}", strict=False)[0]
        headers = {
            CONTENT_TYPE: kind or "application/octet-stream",
            "ce_specversion": "1.0",
            CE_ID: self.event_id,
            CE_SOURCE: self.source,
            "ce_type": "sightstream.image",
            CE_TIME: when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            CE_SUBJECT: self.original_name,
        }
        if self.uri:
            headers[URI] = self.uri
        return [(name, value.encode()) for name, value in headers.items()]


def new_event_id(now: float) -> str:
    """Make a UUID version 7 for a time in seconds since the epoch.

    The 12 bits after the version hold the fraction of the millisecond, so that arrivals within one
    sort too (RFC 9562, 6.2, method 3). The 60 last ones are random.
    """
    return new_event_ids(now, 1)[0]


def new_event_ids(now: float, count: int) -> list[str]:
    """Make ids as `new_event_id` does, each for a 4096th of a millisecond after the one before."""
    begin = int(now * _TICKS)
    return [_event_id(tick & (2**60 - 1)) for tick in range(begin, begin + count)]


def consecutive(first: str, event_id: str, count: int) -> bool:
    """Return whether an id may be one of those that `new_event_ids` made together with a first."""
    return 0 <= _tick(event_id) - _tick(first) < count


def milliseconds(event_id: str) -> int:
    """Return the time of an event id that this project made, since the epoch."""
    return _tick(event_id) >> 12


def _event_id(tick: int) -> str:
    time, random = f"{tick:015x}", os.urandom(8).hex()
    return f"{time[:8]}-{time[8:12]}-7{time[12:]}-8{random[:3]}-{random[4:]}"


def _tick(event_id: str) -> int:
    return int(event_id[:8] + event_id[9:13] + event_id[15:18], 16)


def readable(name: bytes) -> str:
    r"""Return a file name as text: bytes that are no UTF-8 are shown as \xNN."""
    return name.decode("utf-8", "backslashreplace")
