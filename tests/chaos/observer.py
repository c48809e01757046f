"""The observer: reads the table from outside, and notes when each row could first be read."""

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import unquote, urlsplit

from tests.chaos.checker import Row

COLUMNS = ["event_id", "original_name", "source"]
LONGEST = 1.0
"""Seconds between two looks, at most, where a look is quick."""


class Observer(Thread):
    """Looks at the table's versions until it is stopped."""

    def __init__(self, path: str) -> None:
        super().__init__(name="observer", daemon=True)
        self._path, self._version = path, -1
        self.seen: dict[str, float] = {}
        self.stopping, self.busy = Event(), Lock()

    def run(self) -> None:
        pause = 0.2
        while not self.stopping.wait(pause):
            begin = time.monotonic()
            with self.busy, suppress(Exception):  # no table yet, or its disk is away
                self.look()
            pause = min(LONGEST, max(0.2, 4 * (time.monotonic() - begin)))

    def look(self) -> None:
        """Looks once."""
        from deltalake import DeltaTable

        table = DeltaTable(self._path)
        if table.version() == self._version:
            return
        found, now = table.to_pyarrow_dataset().to_table(columns=COLUMNS).to_pylist(), time.time()
        for row in found:
            self.seen.setdefault(_id(row), now)
        self._version = table.version()

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
