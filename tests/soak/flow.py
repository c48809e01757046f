"""The flow: images sent one after the other at a rate, and the rows that come of them.

A ledger of one line a burst, beside that of `tests.chaos`: a line for each image, synced, would be
most of the work of the machine.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from benchmarks.stream import Commits
from sightstream.config import Settings
from tests.chaos.pictures import Picture, Pictures

TICK = 0.05
"""Seconds between two bursts."""

RETRY = 0.5
"""Seconds until a file that could not be written is tried again."""

NAME = "soak-{:010d}.png"
"""Name of an image, by its number."""

Due = Callable[[], float]
"""How many images are to be sent now."""


class Flow(Thread):
    """Sends files, made aside and renamed into the inbox, as many as are `due`."""

    def __init__(self, pictures: Pictures, settings: Settings, ledger: Path) -> None:
        super().__init__(name="flow", daemon=True)
        self.pictures, self.due = pictures, (lambda: 0.0)
        self.sent = 0
        self.extra = list[Picture]()  # to be sent with the next burst
        self.stopping, self.busy = Event(), Lock()
        self.error: Exception | None = None
        self._inbox, self._aside = settings.inbox, settings.staging / "soak.part"
        self._ledger = ledger

    def run(self) -> None:
        try:
            self._aside.parent.mkdir(parents=True, exist_ok=True)
            with self._ledger.open("w") as ledger:
                while not self.stopping.wait(TICK):
                    burst = [self.pictures.any() for _ in range(int(self.due()))]
                    while self.extra:
                        burst.append(self.extra.pop())
                    if burst:
                        self._send(burst)
                        images = [(each.label, each.code, len(each.content)) for each in burst]
                        entry = {"at": time.time(), "first": self.sent, "images": images}
                        ledger.write(json.dumps(entry) + "\n")
                        self.sent += len(burst)
        except Exception as error:  # the run tells of it
            self.error = error

    def _send(self, burst: list[Picture]) -> None:
        with self.busy:
            for number, picture in enumerate(burst, self.sent):
                while not self._moved(NAME.format(number), picture.content):
                    time.sleep(RETRY)

    def _moved(self, name: str, content: bytes) -> bool:
        try:
            self._aside.write_bytes(content)
            self._aside.rename(self._inbox / name)
        except OSError:  # such as a full disk
            return False
        return True


def steady(flow: Flow, rate: float) -> Due:
    """A rate in images a second, from now on; after a hold-up, up to a second's images at once."""
    begin, before = time.monotonic(), flow.sent

    def due() -> float:
        return min(rate, before + rate * (time.monotonic() - begin) - flow.sent)

    return due


def ahead(flow: Flow, rows: Callable[[], int], count: int) -> Due:
    """So many images are always on their way."""
    return lambda: min(count / 4, count + rows() - flow.sent)


class Arrived(Thread):
    """Counts the rows of a table from now on, by its log, and notes when they came."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="rows", daemon=True)
        self._commits = Commits(settings)
        self.stopping = Event()

    @property
    def rows(self) -> int:
        return self._commits.rows

    @property
    def seen(self) -> Mapping[int, float]:
        """When the commit of a micro-batch was seen."""
        return self._commits.seen

    def run(self) -> None:
        while not self.stopping.is_set():
            with suppress(TimeoutError, OSError):
                self._commits.take(time.monotonic() + 2)


def entries(ledger: Path) -> Iterator[list[dict[str, Any]]]:
    """The images of each burst, as `tests.chaos.checker` takes them."""
    with ledger.open() as file:
        for line in map(json.loads, file):
            yield [
                {"kind": "sent", "at": line["at"], "id": NAME.format(number), "source": "folder",
                 "sha256": "", "label": label, "code": code, "bytes": size}
                for number, (label, code, size) in enumerate(line["images"], line["first"])
            ]  # fmt: skip
