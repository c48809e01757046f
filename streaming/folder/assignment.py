"""Assignments: the events of a micro-batch that each task takes, and how the task learns of them.

Spark decides only when a micro-batch runs and where it ends; its rows are never computed. Read by
Spark, events go through a second Python worker and a shuffle, 5 us each, in which all cores but one
idle; read by the driver and dealt out, they hold up each micro-batch by 0.06 s. So a task's row is
its number, and the task reads the manifests itself, 0.4 ms for each 1,000 events. Which manifests
these are, and who takes which of their events, is the *assignment*. It travels as JSON in a local
property of the job, because a plan that held it would be planned anew for each micro-batch, which
takes as long as running it.

On one machine no share is fixed: a task takes the next events when it is done with the last, ever
fewer towards the end, so that no task waits for one whose images are larger or whose core is slower
(guided self-scheduling, Polychronopoulos and Kuck, 1987). On a cluster all shares are equal.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightstream.images.store import local_path
from sightstream.runtime.spark import PIECE
from streaming.folder.manifests import Offset, between, read
from streaming.source import SMALL

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from sightstream.scoring.udf import Piece

_TURNS = "turns-"
_WIDTH = 4

Part = tuple[int, int]
"""The first event, and the one behind the last."""


@dataclass(frozen=True)
class Assignment:
    """The manifests of a micro-batch, and how its tasks divide their events.

    Attributes:
        start: the manifests are those after this one,
        end: up to this one.
        images: the events in these manifests.
        tasks: the tasks that divide them.
        turns: the file of `taken`, where all tasks are on one machine; empty: shares are equal.
    """

    start: Offset
    end: Offset
    images: int
    tasks: int
    turns: str = ""

    def parts(self, task: int) -> Iterable[Part]:
        """Return the events that a task takes; to be iterated while it runs."""
        if self.turns:
            return taken(cuts(self.images, self.tasks), self.turns, task)
        return [(self.images * task // self.tasks, self.images * (task + 1) // self.tasks)]

    def text(self, turns: Path | None = None) -> str:
        """Return the assignment as JSON, for one job.

        Args:
            turns: a folder for a new file of `taken`, where all tasks are on one machine.
        """
        return json.dumps(asdict(self) | ({"turns": _new_turns(turns)} if turns else {}))


class AssignedImages:
    """Reads the images that are assigned to tasks; goes to the workers with the UDF."""

    def __init__(self, images: Path, manifests: Path) -> None:
        """Remember the folders, which a worker must see under the same paths."""
        self._images = images
        self._manifests = manifests

    def __call__(self, rows: pd.DataFrame, assignment: str) -> Iterator[Piece]:
        """Yield the events of each task in pieces, with the paths of their images.

        Args:
            rows: the numbers of tasks.
            assignment: the text of an `Assignment`.

        Raises:
            OSError: this machine does not see a folder, or not all of a manifest: the images are
                not missing.
        """
        for folder in (self._images, self._manifests):
            if not folder.is_dir():
                raise FileNotFoundError(f"{socket.gethostname()} does not see {folder}")
        assigned = Assignment(**json.loads(assignment))
        found = read(between(self._manifests, assigned.start, assigned.end))
        if len(found) != assigned.images:
            raise OSError(f"{socket.gethostname()} sees {len(found)} of {assigned.images} events")
        for number in rows["id"]:
            for first, last in assigned.parts(number):
                yield from _pieces(found.slice(first, last - first))


def _pieces(found: pa.Table) -> Iterator[Piece]:
    for start in range(0, len(found), PIECE):
        events = found.slice(start, PIECE)
        uris, codes = (events[name].to_pylist() for name in ("uri", "error_code"))
        images = [
            local_path(uri) if code is None else None for uri, code in zip(uris, codes, strict=True)
        ]
        yield events, images


def _new_turns(folder: Path) -> str:
    for old in folder.glob(f"{_TURNS}*"):
        old.unlink()
    # Each job has a file of its own, since a task of one that failed may still take a turn.
    descriptor, file = tempfile.mkstemp(prefix=_TURNS, dir=folder)
    os.close(descriptor)
    return file


def cuts(images: int, tasks: int) -> list[Part]:
    """Cut events into parts of at most `PIECE`, ever smaller towards the end."""
    ends = [0]
    while (left := images - ends[-1]) > 0:
        ends.append(ends[-1] + min(left, PIECE, max(SMALL, left // (2 * tasks))))
    return list(pairwise(ends))


def taken(parts: Sequence[Part], turns: str, task: int) -> Iterator[Part]:
    """Take parts until none is left that no other task has taken.

    Args:
        parts: the same for all tasks.
        turns: a file to which each turn appends the number of its task. The system appends one
            after the other, so that the place of a number in the file is that of the part.
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
        # The answers of an attempt that failed are lost: this one takes again what that one took.
        owners = np.frombuffer(os.pread(file, _WIDTH * len(parts), 0), f"<u{_WIDTH}")
        yield from (parts[n] for n in np.flatnonzero(owners == task).tolist() if n not in own)
    finally:
        os.close(file)
