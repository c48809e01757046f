"""From the inbox to a manifest: a complete file is moved to its image folder, and told.

A chunk of files goes through three steps, and a crash may follow each of them: its events are
written and synced to `manifests/pending`; the files are moved; the events of those that did move
become a manifest. `recover` ends what a crash has left, so that no image gets two events or none.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from threading import Event

import pyarrow as pa

from sightstream.config import Settings
from sightstream.images.event import new_event_id, readable
from sightstream.images.store import local_path
from sightstream.io import changes
from sightstream.io.folder import PAUSE, Arrival, Arrivals, pause
from sightstream.tables.schema import EVENT
from streaming.folder.manifests import SUFFIX, published, read, write

log = logging.getLogger(__name__)

CHUNK = 1000
"""The most images in a manifest."""

_PENDING = "pending"
_NOT_FILES = {
    stat.S_IFLNK: "a symbolic link, which is not followed",
    stat.S_IFIFO: "a named pipe, which holds no image",
    stat.S_IFSOCK: "a socket, which holds no image",
    stat.S_IFBLK: "a device, which holds no image",
    stat.S_IFCHR: "a device, which holds no image",
}


class Intake:
    """The inbox of one home folder."""

    def __init__(self, settings: Settings, on_arrival: Callable[[int], None] | None = None) -> None:
        """Prepares the folders; what a crash has left is ended by the first look.

        Args:
            settings: the folders, and the time that doubtful files are left to settle.
            on_arrival: called with the number of images in each new manifest.
        """
        self._inbox = os.fsencode(settings.inbox)
        self._images, self._images_uri = str(settings.images), settings.images.as_uri()
        self._manifests = settings.manifests
        self._settle = settings.settle_seconds
        self._chunk = min(CHUNK, settings.images_per_batch)
        self._on_arrival = on_arrival or (lambda _: None)
        self._arrivals = Arrivals(self._inbox, self._settle)
        for folder in (settings.inbox, settings.images, settings.manifests):
            folder.mkdir(parents=True, exist_ok=True)

    def run(self, stop: Event) -> None:
        """Takes what arrives until told to stop."""
        while not stop.is_set():
            begin = time.monotonic()
            try:
                if self.take():
                    stop.wait(PAUSE)  # else each image of many had a manifest of its own
                else:
                    changes.wait(self._inbox, pause(time.monotonic() - begin))
            except OSError as error:  # such as a full disk; the inbox keeps what is in it
                log.warning("the intake waits, and tries again: %s", error)
                stop.wait(1.0)

    def take(self) -> int:
        """Looks at the inbox once, and takes what is complete.

        Returns:
            How many files were taken.
        """
        if recovered := recover(self._manifests):
            self._on_arrival(recovered)
        taken, arrivals = 0, self._arrivals.look()
        while chunk := list(islice(arrivals, self._chunk)):
            taken += self._move(chunk)
        return taken

    def drain(self) -> int:
        """Takes all that is there, leaving doubtful files their time to settle.

        Returns:
            How many files were taken.
        """
        deadline = time.monotonic() + self._settle + 0.5
        taken = self.take()
        while self._arrivals.settling and time.monotonic() < deadline:
            time.sleep(PAUSE)
            taken += self.take()
        return taken

    def _move(self, chunk: list[Arrival]) -> int:
        # Step by step for all files: to go through all steps for each takes a tenth longer.
        events = self._events(chunk)
        write(self._manifests / _PENDING, events)
        told = zip(chunk, events["uri"].to_pylist(), strict=True)
        moved = [self._rename(path, uri) for (path, *_), uri in told]
        _publish(self._manifests, events, moved)
        if taken := sum(moved):
            self._on_arrival(taken)
        return taken

    def _events(self, chunk: list[Arrival]) -> pa.Table:
        paths, infos, came = zip(*chunk, strict=True)
        ids = [new_event_id(time.time()) for _ in chunk]
        refusals = [_NOT_FILES.get(stat.S_IFMT(info.st_mode)) for info in infos]
        columns = {
            "event_id": ids,
            "source": ["folder"] * len(chunk),
            "uri": [
                f"{self._images_uri}/{_day(int(at // 86_400))}/{event_id}{_suffix(path)}"
                for path, at, event_id in zip(paths, came, ids, strict=True)
            ],
            "original_name": [readable(path[len(self._inbox) + 1 :]) for path in paths],
            "event_time": came,
            "bytes": [info.st_size for info in infos],
            "error_code": ["unreadable" if refusal else None for refusal in refusals],
            "error_detail": [f"It is {refusal}." if refusal else None for refusal in refusals],
        }
        return pa.table(columns, EVENT)

    def _rename(self, path: bytes, uri: str) -> bool:
        # As `local_path`, but faster: below that folder no name is quoted.
        target = self._images + uri[len(self._images_uri) :]
        try:
            try:
                os.rename(path, target)
            except FileNotFoundError:
                Path(target).parent.mkdir(exist_ok=True)
                os.rename(path, target)
        except FileNotFoundError:
            return False  # deleted since it was seen
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            log.warning("%s stays in the inbox: %s", readable(path), error.strerror)
            self._arrivals.put_off(path)
            return False
        return True


def recover(manifests: Path) -> int:
    """Publishes the events of images that were moved before a crash, and forgets the others.

    Args:
        manifests: the folder of the manifests.

    Returns:
        How many events were published.
    """
    pending = manifests / _PENDING
    if not pending.exists():
        return 0
    try:
        events = read([pending])
        moved = [os.path.lexists(local_path(uri)) for uri in events["uri"].to_pylist()]
    except ValueError:  # the crash cut it short, so that nothing has been moved yet
        events, moved = EVENT.empty_table(), []
    _publish(manifests, events, moved)
    return sum(moved)


def _publish(manifests: Path, events: pa.Table, moved: list[bool]) -> None:
    pending = manifests / _PENDING
    if not any(moved):
        pending.unlink()
        return
    if not all(moved):
        rewritten = manifests / f"{_PENDING}.rewritten"
        write(rewritten, events.filter(pa.array(moved)))
        rewritten.replace(pending)
    # The newest manifest is never deleted, so that names rise even if the clock is set back.
    last = max(published(manifests), default="0" + SUFFIX)
    number = max(time.time_ns(), int(last.removesuffix(SUFFIX)) + 1)
    pending.rename(manifests / f"{number:020d}{SUFFIX}")
    _sync(manifests)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _suffix(path: bytes) -> str:
    ending = path.rpartition(b".")[2]
    return "." + ending.decode().lower() if len(ending) <= 5 and ending.isalnum() else ""


@lru_cache(2)
def _day(number: int) -> str:
    """The date of a day counted from the epoch, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))
