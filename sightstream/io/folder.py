"""The files that arrive in a folder: which are complete, and when each of them came.

The folder is looked at, and listened to only for the moment to do so: what is accepted leaves it,
so that a look is cheap, misses nothing, and is the same on file systems that give no events.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from functools import lru_cache

from sightstream.images.event import readable

log = logging.getLogger(__name__)

PAUSE = 0.05
"""Seconds between two looks at a folder; longer when a look takes long."""

LONGEST_PAUSE = 2.0
"""Seconds between two looks, however long one took: it may have been held up, by a file server that
was away or a machine that was suspended.
"""

RETRY = 30.0
"""Seconds until a file that could not be taken is tried again."""

RELIST = 1.0
"""Seconds until a folder that seems to be as it was is listed all the same."""

TICK = 0.02
"""Seconds in which a second change of a folder may have the time of the first; in some, longer."""

_TEMPORARY = re.compile(rb"^\.|\.(tmp|temp|part|partial|filepart|crdownload|download)$|~$", re.I)

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_LEASE: int | None = getattr(fcntl, "F_SETLEASE", None)

Arrival = tuple[bytes, os.stat_result, float]
"""A file's path, what the system tells of it, and when it came, in seconds since the epoch."""

Bare = dict[bytes, tuple[int, list[bytes]]]
"""Folders without files: when they were changed, in nanoseconds, and the folders in them."""


class Arrivals:
    """One folder with all below it; it remembers what it has to wait for."""

    def __init__(self, root: bytes, settle_seconds: float, leave: Collection[bytes] = ()) -> None:
        """Looks at nothing yet.

        Args:
            root: the folder.
            settle_seconds: the time that doubtful files are left to settle.
            leave: names directly below the folder that are not looked at.
        """
        self._root = root
        self._settle = settle_seconds
        self._leave = {os.path.join(root, name) for name in leave}
        self._unsettled: dict[bytes, tuple[tuple[int, int, int], float]] = {}
        self._put_off: dict[bytes, float] = {}
        self._looked = 0.0
        self._bare: Bare = {}
        self._listed = 0.0
        # A writer that opens a file during the test of `_has_writer` causes this signal.
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    def look(self) -> Iterator[Arrival]:
        """Looks at the folder once, and yields what is complete.

        What is no regular file, such as a symbolic link, is complete as it is.
        """
        begin, unseen = time.time(), {*self._unsettled, *self._put_off}
        if time.monotonic() - self._listed >= RELIST:
            self._bare.clear()
            self._listed = time.monotonic()
        for entry in files(self._root, self._leave, self._bare):
            path = entry.path
            unseen.discard(path)
            try:
                info = self._complete(entry)
            except FileNotFoundError:
                continue  # deleted since it was listed
            except OSError as error:
                _warn(f"{readable(path)} stays where it is: {error.strerror}")
                continue
            if info:
                yield path, info, self._came(path, info)
        for path in unseen:
            self._unsettled.pop(path, None)
            self._put_off.pop(path, None)
        self._looked = begin

    @property
    def settling(self) -> bool:
        """Whether there are files that have to rest before they are taken."""
        return bool(self._unsettled)

    def put_off(self, path: bytes) -> None:
        """Leaves out a file that could not be taken, for `RETRY` seconds."""
        self._put_off[path] = time.monotonic() + RETRY

    def _came(self, path: bytes, info: os.stat_result) -> float:
        # The inode's last change is the arrival, and cannot be set; but moving a folder changes
        # none of its files. What an earlier look did not see has come since.
        earliest = 0.0 if path in self._unsettled else self._looked
        return min(max(info.st_ctime, earliest), time.time())

    def _complete(self, entry: os.DirEntry[bytes]) -> os.stat_result | None:
        """What the system tells of a file that is as its writer wants it; None of any other."""
        path = entry.path
        if self._put_off.get(path, 0) > time.monotonic():
            return None
        if not entry.is_file(follow_symlinks=False):
            return entry.stat(follow_symlinks=False)
        info, written = _opened(path)
        doubtful = written is None or not info.st_size or _TEMPORARY.search(entry.name)
        if written is False and not doubtful:
            return info
        state = (info.st_ino, info.st_size, info.st_mtime_ns)
        before, since = self._unsettled.get(path, (None, 0.0))
        if written or before != state:
            since = time.monotonic()
        self._unsettled[path] = (state, since)
        return info if time.monotonic() - since >= self._settle and not written else None


def pause(seconds: float) -> float:
    """Seconds to wait after a look that took some and found nothing, so that looks stay cheap."""
    return min(LONGEST_PAUSE, max(PAUSE, 10 * seconds))


def files(
    root: bytes, leave: Collection[bytes] = (), bare: Bare | None = None
) -> Iterator[os.DirEntry[bytes]]:
    """Walks a folder, following no link; what cannot be looked into is told once, and left out.

    Args:
        root: the folder.
        leave: paths of folders that are left out.
        bare: from one walk to the next, so that folders without files are listed when they have
            changed; one that once held many files takes long to list ever after.
    """
    folders, bare = [root], {} if bare is None else bare
    settled = time.time_ns() - int(TICK * 1e9)
    while folders:
        folder = folders.pop()
        try:
            changed = os.stat(folder).st_mtime_ns
            known, inside = bare.get(folder, (None, []))
            if known == changed:
                folders += inside
                continue
            found, inside = list[os.DirEntry[bytes]](), list[bytes]()
            for each in os.scandir(folder):
                if not each.is_dir(follow_symlinks=False):
                    found.append(each)
                elif each.path not in leave:
                    inside.append(each.path)
        except OSError as error:
            _warn(f"{readable(folder)} cannot be looked into: {error.strerror}")
            continue
        if changed < settled and not found:
            bare[folder] = changed, inside
        folders += inside
        yield from found


@lru_cache(10_000)
def _warn(message: str) -> None:
    """Says it once, not at every look."""
    log.warning("%s", message)


def _opened(path: bytes) -> tuple[os.stat_result, bool | None]:
    """A file, and whether it has a writer: of one descriptor, so that both are of the same file."""
    try:
        descriptor = os.open(path, _READ)
    except OSError:
        return os.lstat(path), None
    try:
        return os.fstat(descriptor), _has_writer(descriptor)
    finally:
        os.close(descriptor)


def _has_writer(descriptor: int) -> bool | None:
    """Whether a process has the file open for writing; None where the system does not tell.

    Linux grants a read lease (fcntl(2), F_SETLEASE) only on a file that nobody writes.
    """
    if _LEASE is None:
        return None
    try:
        fcntl.fcntl(descriptor, _LEASE, fcntl.F_RDLCK)  # given back by closing it
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False
