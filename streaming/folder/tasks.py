"""The shares of a micro-batch's tasks: which of the manifests' events each of them takes.

On one machine none is fixed: a task takes the next ones when it is done with the last, ever fewer
towards the end, so that none waits for one whose images are larger or whose core is slower (guided
self-scheduling, Polychronopoulos and Kuck, 1987). On a cluster all shares are equal.

Tasks read manifests themselves: read by Spark, events would go through a second Python worker and
a shuffle.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sightstream.images.store import local_path
from sightstream.runtime.spark import PIECE
from sightstream.scoring.udf import Piece
from streaming.folder.manifests import Offset, between, read

if TYPE_CHECKING:
    import pandas as pd

SMALL = 32
"""Fewer images are not divided: it would cost more than it saves."""

_TURNS = "turns-"
_WIDTH = 4

Part = tuple[int, int]
"""The first event, and the one behind the last."""


class Shares:
    """From the number of a task to its share of the images; goes to the workers with the UDF."""

    def __init__(self, images: Path, manifests: Path) -> None:
        """Remembers the folders."""
        self._images = images
        self._manifests = manifests

    def __call__(self, rows: pd.DataFrame, told: str) -> Iterator[Piece]:
        """The events of each task's share, and the paths of their images.

        Args:
            rows: the numbers of tasks.
            told: as `tell` gives it.

        Raises:
            OSError: this machine does not see a folder, or not all of a manifest: the images are
                not missing.
        """
        for folder in (self._images, self._manifests):
            if not folder.is_dir():
                raise FileNotFoundError(f"{socket.gethostname()} does not see {folder}")
        begin, end, size, tasks, turns = json.loads(told)
        found = read(between(self._manifests, begin, end))
        if len(found) != size:
            raise OSError(f"{socket.gethostname()} sees {len(found)} of {size} events")
        for number in rows["id"]:
            fixed = [(size * number // tasks, size * (number + 1) // tasks)]
            for first, last in taken(cuts(size, tasks), turns, number) if turns else fixed:
                yield from _pieces(found.slice(first, last - first))


def _pieces(found: pa.Table) -> Iterator[Piece]:
    for start in range(0, len(found), PIECE):
        events = found.slice(start, PIECE)
        uris, codes = (events[name].to_pylist() for name in ("uri", "error_code"))
        images = [
            local_path(uri) if code is None else None for uri, code in zip(uris, codes, strict=True)
        ]
        yield events, images


def tell(begin: Offset, end: Offset, size: int, tasks: int, turns: Path | None) -> str:
    """What a job is told, for `Shares`; to be made anew for each job.

    Args:
        begin: the manifests are those after this one,
        end: up to this one.
        size: their events.
        tasks: what shares them.
        turns: a folder for the file of `taken`, where all tasks are on one machine.
    """
    file = ""
    if turns:
        for old in turns.glob(f"{_TURNS}*"):
            old.unlink()
        # Of its own name, since a task of a job that failed may still be about to take its turn.
        descriptor, file = tempfile.mkstemp(prefix=_TURNS, dir=turns)
        os.close(descriptor)
    return json.dumps([begin, end, size, tasks, file])


def cuts(size: int, tasks: int) -> list[Part]:
    """Parts to be taken in turn, of at most `PIECE` events, and of few at the end."""
    ends = [0]
    while (left := size - ends[-1]) > 0:
        ends.append(ends[-1] + min(left, PIECE, max(SMALL, left // (2 * tasks))))
    return list(pairwise(ends))


def taken(parts: Sequence[Part], turns: str, task: int) -> Iterator[Part]:
    """Takes parts until none is left that no other task has taken.

    Args:
        parts: the same for all tasks.
        turns: a file that grows by the number of a task with each turn. The system appends one
            after the other, so that the place where a number went is that of the part.
        task: its number.
    """
    file = os.open(turns, os.O_RDWR | os.O_APPEND)

    def turn() -> int:
        os.write(file, task.to_bytes(_WIDTH, "little"))
        return os.lseek(file, 0, os.SEEK_CUR) // _WIDTH - 1

    try:
        own = set()
        while (number := turn()) < len(parts):
            own.add(number)
            yield parts[number]
        # Of an attempt that failed nothing counts, so that what it had taken is this one's.
        owners = np.frombuffer(os.pread(file, _WIDTH * len(parts), 0), f"<u{_WIDTH}")
        yield from (parts[n] for n in np.flatnonzero(owners == task).tolist() if n not in own)
    finally:
        os.close(file)
