"""The ledger: what was really sent, and what happened meanwhile, as lines of JSON that are synced.

It lies outside the home, so that no fault reaches it.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
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

    def promoted(self, version: int, labels: Mapping[str, str]) -> None:
        """Notes that a version is about to become champion, and its labels by those of the first.

        Labels that are not there are the same.
        """
        self._note("promoted", version=version, labels=dict(labels))

    def fault(
        self, name: str, begin: float, did: str, *, effect: bool, delays: bool,
        champions: float | None,
    ) -> None:  # fmt: skip
        """Notes a fault that has been undone; see `faults.fault`."""
        self._note("fault", name=name, begin=begin, did=did, effect=effect, delays=delays,
                   champions=champions)  # fmt: skip

    def started(self, home: str) -> None:
        """Notes that a stream is about to be started."""
        self._note("started", home=home)

    def ready(self, home: str) -> None:
        """Notes that the stream which was started last on a home is ready."""
        self._note("ready", home=home)

    def ended(self, code: int, said: str, *, explained: bool) -> None:
        """Notes that the stream has ended, and whether a fault until now explains it."""
        self._note("ended", code=code, said=said, explained=explained)

    def has_ended(self, code: int, since: float) -> bool:
        """Whether the stream has ended with a code since a time."""
        return any(
            each["kind"] == "ended" and each["code"] == code and each["at"] > since
            for each in self.entries()
        )

    def arrived(self, ids: Iterable[str]) -> None:
        """Notes the events that are in the topic of images, and in no aborted transaction."""
        self._note("arrived", ids=sorted(ids))

    def deleted(self, ids: Iterable[str]) -> None:
        """Notes events all of whose messages are gone unread: they may never get a row."""
        self._note("deleted", ids=sorted(ids))

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
