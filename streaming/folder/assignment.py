"""Assignments: the events of a micro-batch that each task takes, and how the task learns of them.

docs/architecture.md says why ("Folder source"). Shares follow guided self-scheduling
(Polychronopoulos and Kuck, 1987).
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
from streaming.folder.manifests import Offset, between, placed, read

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from sightstream.scoring.framed import Piece

_TURNS = "turns-"
_WIDTH = 4

_LEAST = 4
"""Events of a part, at least: with a large network 32 images keep a core busy for seconds, while
the others have nothing left to do.
"""

Part = tuple[int, int]  # the first event, and the one behind the last


@dataclass(frozen=True)
class Assignment:
    """The manifests after `start` up to `end`, and how tasks divide the images in them."""

    start: Offset
    end: Offset
    images: int
    tasks: int
    turns: str = ""
    """The file of `taken`, where all tasks are on one machine; empty: shares are equal."""

    def parts(self, task: int) -> Iterable[Part]:
        """Return the events that a task takes; to be iterated while it runs."""
        if self.turns:
            return taken(cuts(self.images, self.tasks), self.turns, task)
        return [(self.images * task // self.tasks, self.images * (task + 1) // self.tasks)]

    def text(self, turns: Path | None = None) -> str:
        """Return the assignment of one job as JSON, with a new file of `taken` in that folder."""
        return json.dumps(asdict(self) | ({"turns": _new_turns(turns)} if turns else {}))


@dataclass(frozen=True)
class AssignedImages:
    """Reader of the images that are assigned to tasks; goes to the workers with the UDF.

    A worker must see the two folders under the same paths as the driver.
    """

    images: Path
    manifests: Path

    def __call__(self, rows: pd.DataFrame, assignment: str) -> Iterator[Piece]:
        """Yield the events of each task in pieces, with the paths of their images.

        Raises:
            OSError: this machine does not see a folder, or not all of a manifest: the images are
                not missing.
        """
        for piece in assigned(rows, assignment, self.manifests, self.images):
            events = placed(piece, self.images)
            named = zip(events["uri"].to_pylist(), events["error_code"].to_pylist(), strict=True)
            yield events, [local_path(uri) if code is None else None for uri, code in named]


def assigned(
    rows: pd.DataFrame, assignment: str, manifests: Path, *folders: Path
) -> Iterator[pa.Table]:
    """Yield the events of each task, as manifests have them, in pieces of at most `PIECE`.

    Raises:
        OSError: this machine does not see one of the folders, or not all of a manifest.
    """
    for folder in (*folders, manifests):
        if not folder.is_dir():
            raise FileNotFoundError(f"{socket.gethostname()} does not see {folder}")
    work = Assignment(**json.loads(assignment))
    found = read(between(manifests, work.start, work.end))
    if len(found) != work.images:
        raise OSError(f"{socket.gethostname()} sees {len(found)} of {work.images} events")
    for number in rows["id"]:
        for first, last in work.parts(number):
            for start in range(first, last, PIECE):
                yield found.slice(start, min(PIECE, last - start))


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
        ends.append(ends[-1] + min(left, PIECE, max(_LEAST, left // (2 * tasks))))
    return list(pairwise(ends))


def taken(parts: Sequence[Part], turns: str, task: int) -> Iterator[Part]:
    """Take parts until none is left that no other task has taken.

    Each turn appends the number of its task to the file `turns`. The system appends one after the
    other, so that the place of a number in the file is that of the part.
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
