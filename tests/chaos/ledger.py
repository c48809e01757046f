"""The ledger: what was really sent, and what happened meanwhile, as lines of JSON that are synced.

It lies outside the home, so that no fault reaches it.
"""

import json
import os
import time
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any


@dataclass(frozen=True)
class Sent:
    """An image, as its sender knows it, and what must be in its row.

    Attributes:
        id: the row's `event_id` where the sender chooses it, else its `original_name`.
        source: folder or kafka.
        sha256: of its content.
        label: what the model answers; empty where the image is to be rejected.
        code: with which it is to be rejected; empty where it is to be classified.
    """

    id: str
    source: str
    sha256: str
    bytes: int
    label: str = ""
    code: str = ""


class Ledger:
    """Appended to from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._path = path
        self._lock = Lock()
        self.acknowledged = 0

    def sent(self, image: Sent, *, certain: bool = True) -> None:
        """Notes an image whose sender was told that it arrived, or does not know."""
        self._note("sent" if certain else "maybe", **asdict(image))
        self.acknowledged += certain

    def aborted(self, image: Sent) -> None:
        """Notes an image of a transaction that was aborted."""
        self._note("aborted", **asdict(image))

    def promoted(self, version: int) -> None:
        """Notes that a version is about to become champion."""
        self._note("promoted", version=version)

    def fault(self, name: str, begin: float, did: str) -> None:
        """Notes a fault that has been undone."""
        self._note("fault", name=name, begin=begin, did=did)

    def ended(self, code: int, said: str, *, explained: bool) -> None:
        """Notes that the stream has ended, and whether a fault until now explains it."""
        self._note("ended", code=code, said=said, explained=explained)

    def has_ended(self, code: int, since: float) -> bool:
        """Whether the stream has ended with a code since a time."""
        return any(
            each["kind"] == "ended" and each["code"] == code and each["at"] > since
            for each in self.entries()
        )

    def deleted(self, kept: Container[str]) -> None:
        """Notes that all messages so far are gone: those that have no row may never get one."""
        ids = {e["id"] for e in self.entries() if e.get("source") == "kafka"}
        self._note("deleted", ids=sorted(each for each in ids if each not in kept))

    def wrong(self, what: str) -> None:
        """Notes what a part did that it must not do, such as a second stream that started."""
        self._note("wrong", what=what)

    def entries(self) -> list[dict[str, Any]]:
        """All of it, in order."""
        return list(read(self._path))

    def close(self) -> None:
        self._file.close()

    def _note(self, kind: str, **entry: Any) -> None:
        with self._lock:
            self._file.write(json.dumps({"kind": kind, "at": time.time(), **entry}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a ledger's file."""
    with path.open() as file:
        yield from map(json.loads, file)
