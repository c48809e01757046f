"""The observer: reads the table from outside, and notes when each row could first be read."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import unquote, urlsplit

from tests.chaos.checker import Row

COLUMNS = ["event_id", "original_name", "source"]
LONGEST = 1.0
"""Seconds between two looks, at most, where a look is quick."""


class Observer(Thread):
    """Looks at the table's versions until it is stopped."""

    def __init__(self, path: str, wrong: Callable[[str], None]) -> None:
        """Calls `wrong` with what no version of the table may show, and with errors of a look."""
        super().__init__(name="observer", daemon=True)
        self._path, self._version, self._wrong = path, -1, wrong
        self._before = Counter[str]()
        # Whether what the table holds may be away, as after a loss of power that nothing survives.
        self.excused = False
        self.seen: dict[str, float] = {}
        self.stopping, self.busy = Event(), Lock()

    def run(self) -> None:
        pause = 0.2
        while not self.stopping.wait(pause):
            begin = time.monotonic()
            with self.busy:
                try:
                    self.look()
                except Exception as error:
                    # Before its first version there is no table.
                    if self._version >= 0 and not self.excused:
                        self._wrong(f"the table cannot be read: {error!r}")
            pause = min(LONGEST, max(0.2, 4 * (time.monotonic() - begin)))

    def look(self) -> None:
        """Looks once."""
        from deltalake import DeltaTable

        table = DeltaTable(self._path)
        if table.version() == self._version:
            return
        found, now = table.to_pyarrow_dataset().to_table(columns=COLUMNS).to_pylist(), time.time()
        counts = Counter(map(_id, found))
        for name in counts:
            self.seen.setdefault(name, now)
        if not self.excused:
            for what in unlike(self._before, counts):
                self._wrong(f"version {table.version()} of the table, {what}")
        self._version, self._before = table.version(), counts

    def rows(self) -> list[Row]:
        """The whole table, as it is now."""
        from deltalake import DeltaTable

        table = DeltaTable(self._path).to_pyarrow_dataset().to_table().to_pylist()
        return [
            Row(
                row["event_id"], row["original_name"], row["source"], row["status"],
                row["label"] or "", row["error_code"] or "", row["bytes"],
                row["model_version"] or 0, row["batch_id"],
                _digest(row["uri"]), self.seen.get(_id(row), time.time()),
            )
            for row in table
        ]  # fmt: skip


def unlike(before: Mapping[str, int], now: Mapping[str, int]) -> Iterator[str]:
    """What a version of the table has no row of any more, or several, but the one before had not.

    Args:
        before: rows by image.
        now: the same, later.
    """
    gone = sorted(before.keys() - now.keys())
    doubled = sorted(name for name, count in now.items() if count > max(1, before.get(name, 0)))
    for names, what in ((gone, "has no row any more"), (doubled, "has several rows")):
        if names:
            more = f", and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"in which {names[0]} {what}{more}"


def _id(row: dict[str, str]) -> str:
    return row["event_id"] if row["source"] == "kafka" else row["original_name"]


def _digest(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return ""
    try:
        return hashlib.sha256(Path(unquote(parts.path)).read_bytes()).hexdigest()
    except OSError as error:
        return str(error)
