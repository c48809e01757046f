"""The reader of Kafka's messages in workers: events, and the images that they carry or claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sightstream.tables.schema import EVENT
from streaming.kafka.assignment import Assignment
from streaming.kafka.events import Places
from streaming.kafka.messages import Messages
from streaming.kafka.values import Opened, event_id, event_time, subject

if TYPE_CHECKING:
    import pandas as pd

    from sightstream.images.store import Image, Store
    from sightstream.scoring.framed import Piece


Look = Callable[[pa.Table, Sequence["bytes | None"]], Iterator["Piece"]]
"""From events, and the values of their messages, to pieces; picklable.

A value is None where the message is refused, or has none.
"""


@dataclass(frozen=True)
class AssignedMessages:
    """Reader of the messages that are assigned to tasks; goes to the workers with the UDF."""

    messages: Messages
    look: Look
    max_bytes: int
    """Of a message's value; larger ones are rejected."""

    def __call__(self, rows: pd.DataFrame, assignment: str) -> Iterator[Piece]:
        """Yield the events of each task in pieces, with their images.

        Raises:
            Exception: as `Messages.pieces` does, and `look`.
        """
        work = Assignment.of(assignment)
        places = Places(self.messages.topic, work.suffix, work.now, self.max_bytes)
        for number in rows["id"]:
            for piece in self.messages.pieces(work.share(number)):
                events = places.events(piece)
                codes = events["error_code"].to_pylist()
                values = (each.value or None for each in piece)
                yield from self.look(
                    events, [None if c else v for c, v in zip(codes, values, strict=True)]
                )


def contents(
    store: Store, opened: Opened | None, events: pa.Table, values: Sequence[bytes | None]
) -> Iterator[Piece]:
    """Yield events, and the image that each carries in its message's value, or claims."""
    codes, uris = (events[name].to_pylist() for name in ("error_code", "uri"))
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
