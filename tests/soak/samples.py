"""What each part of a stream uses: a line of JSON every five seconds."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from benchmarks.stream import memory_of

EVERY = 5.0
"""Seconds from one sample to the next."""

Parts = Mapping[str, Iterable[psutil.Process]]
"""The processes of each part, by its name."""

MIB = 2**20


class Sampler(Thread):
    """Writes samples until it is stopped.

    Each has `second` since the begin, `parts` with what `used` gives of each, what `more` returns,
    and the room and the number of files that table and home take.
    """

    def __init__(
        self, out: Path, home: Path, parts: Callable[[], Parts], more: Callable[[], dict[str, Any]]
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self._out, self._home, self._parts, self._more = out, home, parts, more
        self.stopping = Event()
        self.error: Exception | None = None

    def run(self) -> None:
        begin, room = time.time(), shutil.disk_usage(self._home).used
        try:
            with self._out.open("w", buffering=1) as out:
                while not self.stopping.wait(EVERY - (time.time() - begin) % EVERY):
                    sample = {
                        "second": time.time() - begin,
                        "parts": {name: used(each) for name, each in self._parts().items()},
                        "home MiB": (shutil.disk_usage(self._home).used - room) / MIB,
                        **_table(self._home / "predictions"), **self._more(),
                    }  # fmt: skip
                    out.write(json.dumps(sample) + "\n")
        except Exception as error:  # the run tells of it
            self.error = error


def used(processes: Iterable[psutil.Process]) -> dict[str, float]:
    """What processes use together; one that ends meanwhile counts with nothing.

    `memory` is in MiB, and leaves out pages of files, which the kernel drops where it needs room;
    what processes share counts once (PSS). `resident` is the sum of their RSS.
    """
    found = dict.fromkeys(("memory", "resident", "open files", "threads", "processes"), 0.0)
    for each in processes:
        with suppress(OSError, psutil.Error):
            one = {
                "memory": memory_of(each.pid) / MIB, "processes": 1,
                "resident": each.memory_info().rss / MIB, "threads": each.num_threads(),
                "open files": len(os.listdir(f"/proc/{each.pid}/fd")),  # noqa: PTH208
            }  # fmt: skip
            for name, value in one.items():
                found[name] += value
    return found


def _table(folder: Path) -> dict[str, int]:
    log = folder / "_delta_log"
    return {
        "log entries": sum(1 for _ in os.scandir(log)) if log.exists() else 0,
        "table files": sum(1 for day in folder.glob("date=*") for _ in os.scandir(day)),
    }


def read(file: Path) -> list[dict[str, Any]]:
    """All samples, in order."""
    return [json.loads(line) for line in file.read_text().splitlines()]
