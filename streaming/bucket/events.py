"""S3's events as JSON: those of AWS, MinIO and Ceph, in the envelopes of queues and bridges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

_WRAPPINGS = ("Records", "Message", "Body", "body", "value", "payload")
"""Fields that hold events: S3's own, and those of queues and bridges, mostly as JSON in a text."""

_ENCODED = re.compile(r"[A-Za-z0-9_.~*/%+!'(),:@$-]*")
"""Keys as S3 encodes them; what has other characters is of a store that does not."""

_CREATED = re.compile(
    r"(s3:)?Object ?(Created|Synced)(:(Put|Post|Copy|CompleteMultipartUpload|Create))?"
)
"""Events of a new content; tags and locks of an object are no news of it."""

_PARTS = ("bucket", "object")

_DEPTH = 6  # of wrappings in wrappings


class Told(NamedTuple):
    """What an event says of an object; texts are empty where it does not say."""

    kind: str
    """Such as `s3:ObjectCreated:Put`; `Object Created` in EventBridge."""
    bucket: str
    key: str
    version: str
    """The ETag, without its quotes."""
    sequencer: str
    """Rises with each change of a key."""
    size: int
    time: str

    @property
    def is_removal(self) -> bool:
        """Whether an object, or a version of one, is gone."""
        return "Removed" in self.kind or "Delete" in self.kind

    @property
    def is_creation(self) -> bool:
        """Whether there is a new content under the key."""
        return _CREATED.fullmatch(self.kind) is not None


def told(value: bytes | None) -> list[Told]:
    """Return the events in a message, in their order; none where there are none.

    S3 encodes keys as forms do, EventBridge does not.
    """
    return list(_told(value or b"", _DEPTH))


def _told(said: Any, depth: int) -> Iterator[Told]:
    if isinstance(said, (str, bytes)):
        try:
            said = json.loads(said)
        except (ValueError, RecursionError):
            return
    if isinstance(said, list) and depth:
        for each in said:
            yield from _told(each, depth - 1)
    if not isinstance(said, dict) or not depth:
        return
    event, plain = said.get("s3"), said.get("detail")
    if isinstance(event, dict):
        found = _event(said.get("eventName"), event, said.get("eventTime"))
        if _ENCODED.fullmatch(found.key):
            found = found._replace(key=unquote_plus(found.key))
        yield found
    elif isinstance(plain, dict):
        yield _event(said.get("detail-type"), plain, said.get("time"))
    elif said.get("Event") == "s3:TestEvent":
        yield _event("s3:TestEvent", {}, said.get("Time"))
    else:
        for each in _WRAPPINGS:
            if isinstance(said.get(each), (str, list, dict)):
                yield from _told(said[each], depth - 1)


def _event(kind: Any, event: dict[str, Any], time: Any) -> Told:
    place, found = (each if isinstance(each, dict) else {} for each in map(event.get, _PARTS))
    size = found.get("size")
    return Told(
        _text(kind), _text(place.get("name")), _text(found.get("key")),
        _text(found.get("eTag") or found.get("etag")).strip('"'), _text(found.get("sequencer")),
        size if type(size) is int and 0 <= size < 2**63 else 0, _text(time),
    )  # fmt: skip


def _text(said: Any) -> str:
    """Return a text that UTF-8 can hold; JSON can hold halves of letters."""
    if not isinstance(said, str):
        return ""
    return (
        said if said.isascii() else said.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    )
