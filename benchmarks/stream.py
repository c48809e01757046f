"""sightstream itself, as its user runs it, timed from outside through the table."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import psutil

from sightstream.config import Settings
from sightstream.io import changes
from sightstream.tables import delta
from sightstream.tables.predictions import changed, follow, opened


@contextmanager
def running(settings: Settings, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """`sightstream run` in a process of its own, until the block ends."""
    command = [sys.executable, "-m", "sightstream", "run", "--home", str(settings.root)]
    command += ["--metrics-port", "0", "--model", settings.model]
    command += ["--topic", settings.kafka_topic, *flags]
    broker = {"SIGHTSTREAM_KAFKA_SERVERS": settings.kafka_servers}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | broker)
    try:
        while not list((settings.root / "checkpoints").rglob("metadata")):
            if process.poll() is not None:
                raise RuntimeError(f"sightstream run ended; see {settings.logs}")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


@contextmanager
def paused(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stops all processes of a stream for a block: even an idle one takes time from others."""
    root = psutil.Process(process.pid)
    tree = [root, *root.children(recursive=True)]
    for each in tree:
        with suppress(psutil.NoSuchProcess):
            each.suspend()
    try:
        yield
    finally:
        for each in tree:
            with suppress(psutil.NoSuchProcess):
                each.resume()


def backlog(settings: Settings, images: list[Path], name: str) -> float:
    """Images a second from a backlog in the inbox to committed rows."""
    staged = settings.staging / name
    staged.mkdir(parents=True)
    for number, image in enumerate(images):
        os.link(image, staged / f"{number}-{image.name}")
    wait = rows_more(settings, len(images))
    begin = time.time()
    dropped = staged.rename(settings.inbox / name)
    wait()
    seconds = time.time() - begin
    dropped.rmdir()  # else the intake would go on looking into it
    return len(images) / seconds


def trickle(settings: Settings, image: Path, rate: float, seconds: float) -> list[float]:
    """Seconds from the rename of each image into the inbox until this process reads its row."""
    count, sent, latencies = int(rate * seconds), dict[str, float](), list[float]()

    def read() -> None:
        for found in follow(settings.predictions, interval=0.01):
            now = time.time()
            latencies.extend(now - sent[row["original_name"]] for row in found)
            if len(latencies) >= count:
                return

    reader = Thread(target=read, daemon=True)
    reader.start()
    time.sleep(1)
    begin = time.time()
    for number in range(count):
        staged = settings.staging / f"trickle-{number:05d}.jpg"
        shutil.copyfile(image, staged)
        time.sleep(max(0.0, begin + number / rate - time.time()))
        sent[staged.name] = time.time()
        staged.rename(settings.inbox / staged.name)
    reader.join(timeout=60)
    if len(latencies) != count:
        raise RuntimeError(f"{count} images were sent, {len(latencies)} rows came")
    return latencies


def memory(process: subprocess.Popen[bytes]) -> int:
    """Bytes of the whole process tree; what is shared counts once (PSS).

    Pages of files do not count: the kernel drops what nobody looks at, and reads it again.
    """
    root = psutil.Process(process.pid)
    total = 0
    for each in (root, *root.children(recursive=True)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            total += memory_of(each.pid)
    return total


def memory_of(pid: int) -> int:
    """Bytes of one process, counted so; an OSError where it has ended."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = re.findall(r"^(?:Pss_Anon|Pss_Shmem|SwapPss): +(\d+) kB", told, re.M)
    return 1024 * sum(map(int, kilobytes))


def rows_more(settings: Settings, count: int, timeout: float = 600) -> Callable[[], None]:
    """Gives what waits until the table has so many rows more than now."""
    commits = Commits(settings)

    def wait() -> None:
        deadline = time.monotonic() + timeout
        while commits.rows < count:
            commits.take(deadline)

    return wait


class Commits:
    """The commits of a stream's table from now on, and the number of their rows.

    Of each its log entry is read and no more, when the system tells of one: to look takes time from
    what is measured, 1.4 % of both cores if done every 10 ms.
    """

    def __init__(self, settings: Settings) -> None:
        """Begins behind the table's last version."""
        self._store = delta.store(settings.predictions)
        self._log = os.fsencode(settings.predictions) + b"/_delta_log"
        self._next = opened(settings.predictions).version() + 1
        self.rows = 0
        self.seen: dict[int, float] = {}  # by micro-batch: when its commit was seen

    def take(self, deadline: float) -> None:
        """Waits for the next one; TimeoutError where none came up to a time of `monotonic`."""
        while (actions := delta.commit(self._store, self._next)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no commit came in time after {self.rows} rows")
            changes.wait(self._log, 1.0)
        files = changed(actions, "add")
        self.seen |= {each["txn"]["version"]: time.time() for each in actions if "txn" in each}
        self.rows += sum(json.loads(file["stats"])["numRecords"] for file in files)
        self._next += 1
