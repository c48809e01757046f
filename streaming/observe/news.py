"""What happens to a running stream: told at its screen, and noted in its home for `status`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.io import disk

if TYPE_CHECKING:
    from streaming.job import Stream


@dataclass(frozen=True)
class Restarts:
    """How often a query failed and was started again since its last micro-batch."""

    count: int
    why: str  # the reason of the latest

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"failed and was started again {times} since its last micro-batch: {self.why}"


@dataclass(frozen=True)
class Note:
    """What a stream notes in its home; it holds while the stream runs."""

    restarts: Mapping[str, Restarts] = field(default_factory=dict)
    """By the name of the source; those alone that have any."""


def read(file: Path) -> Note:
    """Return what the latest stream noted; an empty note where it cannot be read."""
    try:
        return disk.noted(file, Note)
    except (OSError, ValueError):
        return Note()


class News:
    """Compares a stream with what was told of it; its methods are called from one thread."""

    def __init__(self, stream: Stream, say: Callable[[str], None], file: Path) -> None:
        self._stream, self._say, self._file = stream, say, file
        self._model = stream.champion.model
        self._told: dict[str, Restarts] = {}
        self._noted: Note | None = None

    def look(self) -> None:
        """Tell of each failure of a query and each new champion once, and note what fails."""
        found = {
            query.source.name: Restarts(query.restarts, query.why)
            for query in self._stream.queries
            if query.restarts
        }
        for name, now in found.items():
            if now != self._told.get(name):
                self._say(f"the query of {name} failed and is started again: {now.why}")
        self._told = found
        if (model := self._stream.champion.model) is not self._model:
            self._say(f"{model} takes over from {self._model} at the next micro-batch")
            self._model = model
        if (note := Note(found)) != self._noted:
            with suppress(OSError):  # a full disk may be what fails; the next look tries again
                disk.replace(self._file, json.dumps(asdict(note)).encode())
                self._noted = note
