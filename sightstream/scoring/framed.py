"""Pieces of events, of which each frame of a file may be one.

All frames of a file follow each other in one piece, so that one commit holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sightstream.images.frames import Framed
from sightstream.images.store import Image
from sightstream.runtime.spark import PIECE

Images = Sequence[Image | Framed | None]

Piece = tuple[pa.Table, Images]
"""Events, with the schema `EVENT`, and the image of each; None where the event was refused."""


def framed(pieces: Iterable[Piece], count: Callable[[Image], int]) -> Iterator[Piece]:
    """Yield pieces with an event for each frame; `count` tells the frames of an image.

    The first frame keeps the event's id, so that the file is known by it whatever a model wants;
    the n-th has `#frame=n` behind it. A piece has about `PIECE` events, and all frames of a file.
    """
    for events, images in pieces:
        counts = [count(each) if isinstance(each, str | bytes) else 1 for each in images]
        start = 0
        for end in _ends(counts):
            yield _piece(events[start:end], images[start:end], counts[start:end])
            start = end


def further(answers: pa.Table) -> int:
    """Return how many of the answers are of further frames of a file."""
    return int(pc.sum(pc.greater(answers["frame"], 1)).as_py() or 0)


def _ends(counts: Sequence[int]) -> Iterator[int]:
    """Yield the number of images up to the end of each piece."""
    before = 0
    for end, rows in enumerate(accumulate(counts), 1):
        if rows - before >= PIECE or end == len(counts):
            yield end
            before = rows


def _piece(events: pa.Table, images: Images, counts: Sequence[int]) -> Piece:
    if max(counts) == 1:
        return events, images
    numbers = [number for count in counts for number in range(1, count + 1)]
    taken = events.take(np.repeat(np.arange(len(counts)), counts))
    ids = [
        each if number == 1 else f"{each}#frame={number}"
        for each, number in zip(taken["event_id"].to_pylist(), numbers, strict=True)
    ]
    shown: list[Image | Framed | None] = []
    for image, count in zip(images, counts, strict=True):
        if isinstance(image, str | bytes) and count > 1:
            shown += [Framed(image, number) for number in range(1, count + 1)]
        else:
            shown.append(image)
    place = taken.column_names.index("event_id")
    return taken.set_column(place, taken.schema.field(place), pa.array(ids, pa.string())), shown
