"""Messages that are S3's events: each tells of objects, and each new content is an image.

So a message makes as many rows as it has events of new contents: none, one, or more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.errors import ConfigError
from sightstream.images.limits import Limits
from sightstream.images.store import Store, is_below
from sightstream.tables.schema import EVENT
from streaming.bucket.events import Told, told
from streaming.bucket.reading import objects
from streaming.bucket.s3 import S3
from streaming.bucket.source import require_answer
from streaming.bucket.store import AwayError, Place, place, uri_of
from streaming.kafka.reader import contents
from streaming.kafka.values import event_id, event_time, unexpected

if TYPE_CHECKING:
    from sightstream.scoring.framed import Piece

_S3 = re.compile(r"s3[an]?://")
_PIECE = 64  # objects that a task reads at once
_EVENTS = 1000
"""Events of a message, at most: stores send one, and queues ten. Each is a row."""

_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


@dataclass(frozen=True)
class EventReader:
    """Reader of the objects that messages tell of; goes to the workers with the UDF."""

    places: Sequence[Place]
    """Folders of buckets; objects elsewhere are refused."""
    store: Store
    limits: Limits

    def __call__(self, events: pa.Table, values: Sequence[bytes | None]) -> Iterator[Piece]:
        """Yield the events in messages, each with the content of its object in its version.

        A message without a value is a claim check by its header, or empty, as with other settings.

        Raises:
            AwayError: a bucket does not answer.
        """
        without = pa.array([value is None for value in values], pa.bool_())
        if count := without.true_count:
            yield from contents(self.store, None, events.filter(without), [None] * count)
        messages = events.filter(pc.invert(without)).to_pylist()
        told_of = [
            event
            for message, value in zip(messages, filter(None, values), strict=True)
            for event in self._events(message, value)
        ]
        table = pa.Table.from_pylist(told_of, EVENT)
        # Sizes in events are hearsay: a piece has few images, whatever they say.
        pieces = (table.slice(start, _PIECE) for start in range(0, len(told_of), _PIECE))
        yield from objects(pieces, self.limits)

    def require_answers(self) -> None:
        """Raise EnvironmentUnfitError where a bucket does not answer."""
        for each in self.places:
            require_answer(each, "folder")

    def check(self) -> bool:
        """Return whether all buckets answer."""
        try:
            for each in self.places:
                each.bucket.probe(each.folder)
        except AwayError:
            return False
        return True

    def _events(self, message: dict[str, Any], value: bytes) -> Iterator[dict[str, Any]]:
        found = told(value)
        if len(found) > _EVENTS:
            why = f"The message tells of {len(found):,} events; the limit is {_EVENTS:,}."
            yield message | {"error_code": "too_large", "error_detail": why}
            return
        if not found:
            refused = unexpected(value, "an S3 event")
            yield message | {"error_code": refused.code, "error_detail": refused.detail}
        for number, each in enumerate(found):
            own = message["event_id"] + (f"/{number}" if number else "")
            if each.is_creation or not each.kind:
                yield message | {"event_id": own} | self._event(message, each)

    def _event(self, message: dict[str, Any], each: Told) -> dict[str, Any]:
        if not (each.kind and each.key and _BUCKET.fullmatch(each.bucket)):
            why = "The S3 event does not name its kind, a bucket and a key."
            return {"error_code": "unsupported_format", "error_detail": why}
        uri = uri_of(S3(each.bucket), each.key)
        event = {
            "uri": uri, "original_name": each.key, "bytes": each.size,
            "event_time": event_time({"time": each.time}, message["event_time"]),
        }  # fmt: skip
        # An event that is sent again has the same; one of the same content put again has not.
        version = "-".join(filter(None, [each.version, each.sequencer]))
        if own := event_id({"source": uri, "id": version}):
            event["event_id"] = own
        if not is_below(uri, [folder.uri for folder in self.places]):
            why = "Its uri is not below one of kafka_uri_prefixes."
            return event | {"error_code": "uri_refused", "error_detail": why}
        version = quote(f'"{each.version}"', safe="") if each.version else ""
        return event | {"uri": f"{uri}#{version}"}


def event_reader(prefixes: Sequence[str], limits: Limits) -> EventReader:
    """Return the reader for `kafka_value = "s3-event"`.

    Raises:
        ConfigError: no prefix is the uri of a bucket that speaks S3.
    """
    places = [place(_S3.sub("s3://", each)) for each in prefixes if _S3.match(each)]
    if not places:
        raise ConfigError(
            "kafka_value = s3-event: objects are read below kafka_uri_prefixes alone; name the "
            "folders there, such as s3://photos/incoming"
        )
    return EventReader(places, Store(prefixes, limits), limits)
