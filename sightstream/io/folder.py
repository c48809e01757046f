"""The files that arrive in a folder: which are complete, and when each of them arrived.

The folder is listed again and again: accepted files leave it, so that a look is cheap, misses
nothing, and works the same on file systems that report no events.
"""

import errno
import fcntl
import logging
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Self

from sightstream.config import Acceptance
from sightstream.images.event import readable
from sightstream.io.ignored import Ignored, ignored

log = logging.getLogger(__name__)

PAUSE = 0.05
"""Seconds between two looks at a folder; longer when a look takes long."""

LONGEST_PAUSE = 2.0
"""Seconds between two looks, at most: a look is slow too when the machine was suspended."""

RETRY = 30.0
"""Seconds until a file that could not be moved is tried again."""

RELIST = 1.0
"""Seconds after which a folder is listed even if it seems unchanged."""

BUSY = "is still being written"
"""Why a file that has a writer, or has not rested yet, is left where it is."""

TICK = 0.02
"""Seconds within which a second change of a folder may leave its time as the first one did."""

# Hidden, an editor's copy, or of a name that tells no more than that it is temporary, such as that
# of a download of AWS' command line; others are of `io.ignored`.
_TEMPORARY = re.compile(rb"^\.|~$|\.(tmp|temp|[0-9a-f]{8})$", re.I)

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that open a file and nothing else: no link is followed, and no pipe waited for."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LEASE: int | None = getattr(fcntl, "F_SETLEASE", None)

Arrival = tuple[bytes, os.stat_result, float]
"""A file's path, its status, and its time of arrival in seconds since the epoch."""

Bare = dict[bytes, tuple[int, list[bytes]]]
"""Folders without files: their time of change in nanoseconds, and the folders in them."""


class Arrivals:
    """A folder with all below it; it remembers the files that must rest."""

    def __init__(self, root: bytes, when: Acceptance, leave: Collection[bytes] = ()) -> None:
        """Look at nothing yet; `leave` are names directly below the folder that are left out."""
        self._root = root
        self._when = when
        self._ignored = ignored(when.ignore)
        self._leave = {os.path.join(root, name) for name in leave}
        self._unsettled: dict[bytes, tuple[tuple[int, int, int], float]] = {}
        self._put_off: dict[bytes, tuple[float, str]] = {}
        self._unreadable: dict[bytes, str] = {}
        self._looked = 0.0
        self._bare: Bare = {}
        self._listed = 0.0
        # A writer that opens a file during the test of `_has_writer` causes this signal.
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    def look(self) -> Iterator[Arrival]:
        """Look at the folder once, and yield the files that are complete.

        Anything but a regular file, such as a symbolic link, is complete as it is.
        """
        begin, unseen = time.time(), {*self._unsettled, *self._put_off}
        unreadable = dict[bytes, str]()
        if time.monotonic() - self._listed >= RELIST:
            self._bare.clear()
            self._listed = time.monotonic()
        for entry in files(self._root, self._ignored, self._leave, self._bare, unreadable):
            path = entry.path
            unseen.discard(path)
            try:
                info = self._complete(entry)
            except FileNotFoundError:
                continue  # deleted since it was listed
            except OSError as error:
                unreadable[path] = f"cannot be read: {error.strerror}"
                _warn(f"{readable(path)} stays where it is: it {unreadable[path]}")
                continue
            if info:
                yield path, info, self._came(path, info)
        for path in unseen:
            self._unsettled.pop(path, None)
            self._put_off.pop(path, None)
        self._looked, self._unreadable = begin, unreadable

    @property
    def settling(self) -> bool:
        """Whether there are files that must rest before they are complete."""
        return bool(self._unsettled)

    @property
    def stuck(self) -> dict[bytes, str]:
        """What cannot be read, or was put off, by its path; with the reason."""
        now = time.monotonic()
        put_off = {path: why for path, (until, why) in self._put_off.items() if until > now}
        return self._unreadable | put_off

    @property
    def left(self) -> dict[bytes, str]:
        """What the last look did not yield, by its path, with the reason."""
        return dict.fromkeys(self._unsettled, BUSY) | self.stuck

    def put_off(self, path: bytes, why: str) -> bool:
        """Leave out a file that could not be moved, for `RETRY` seconds; return if it is new."""
        is_new = path not in self._put_off
        self._put_off[path] = time.monotonic() + RETRY, why
        return is_new

    def _came(self, path: bytes, info: os.stat_result) -> float:
        # The inode's last change is the arrival, and no program can set it; but moving a folder
        # changes none of its files. A file that an earlier look did not see has come since.
        earliest = 0.0 if path in self._unsettled else self._looked
        return min(max(info.st_ctime, earliest), time.time())

    def _complete(self, entry: os.DirEntry[bytes]) -> os.stat_result | None:
        """Return the status of a file that its writer has finished; None of any other."""
        path = entry.path
        if path in self._put_off and self._put_off[path][0] > time.monotonic():
            return None
        if not entry.is_file(follow_symlinks=False):
            return entry.stat(follow_symlinks=False)
        info, written = _opened(path)
        doubtful = not info.st_size or self._when.settle_closed or _TEMPORARY.search(entry.name)
        if written is False and not doubtful:
            return info
        state = (info.st_ino, info.st_size, info.st_mtime_ns)
        before, since = self._unsettled.get(path, (None, 0.0))
        if written or before != state:
            since = time.monotonic()
        self._unsettled[path] = (state, since)
        rested = time.monotonic() - since >= self._when.settle_seconds
        return info if rested and not written else None


def pause(seconds: float) -> float:
    """Return the seconds to wait after a look that found nothing, from the seconds that it took."""
    return min(LONGEST_PAUSE, max(PAUSE, 10 * seconds))


def files(
    root: bytes, is_ignored: Ignored | None = None, leave: Collection[bytes] = (),
    bare: Bare | None = None, unreadable: dict[bytes, str] | None = None,
) -> Iterator[os.DirEntry[bytes]]:  # fmt: skip
    """Walk a folder, following no link; a folder that cannot be read is logged once, and left out.

    Ignored names and paths in `leave` are left out too. With the same `bare` from walk to walk,
    folders without files are listed only when they have changed. Folders that cannot be read are
    noted in `unreadable`.
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
                if is_ignored and is_ignored(each.name):
                    continue
                if not each.is_dir(follow_symlinks=False):
                    found.append(each)
                elif each.path not in leave:
                    inside.append(each.path)
        except OSError as error:
            _warn(f"{readable(folder)} cannot be looked into: {error.strerror}")
            if unreadable is not None and (
                folder == root or not isinstance(error, FileNotFoundError)
            ):
                unreadable[folder] = f"cannot be looked into: {error.strerror}"
            continue
        if changed < settled and not found:
            bare[folder] = changed, inside
        folders += inside
        yield from found


class Beneath:
    """Names files below a folder for functions of `os` with a `dir_fd`, and follows no link there.

    Whoever may write there can put a link in the place of a folder that was listed, and files
    elsewhere would be taken for those that arrived. The root may be a link. In a `with` block, the
    folder of the last file stays open.
    """

    def __init__(self, root: bytes) -> None:
        """Open nothing yet."""
        self._root = root
        self._folder, self._descriptor = b"", -1

    def __enter__(self) -> Self:
        """Begin to name files."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._folder, self._descriptor = b"", -1

    def __call__(self, path: bytes) -> tuple[bytes, int | None]:
        """Return the name of a file, and what it is a name in.

        Raises:
            OSError: a folder is gone, or is a link.
        """
        folder, _, name = path.rpartition(b"/")
        if folder == self._root:
            return path, None
        if folder != self._folder:
            self.__exit__()
            self._descriptor = os.open(self._root, _FOLDER)
            for each in folder[len(self._root) + 1 :].split(b"/"):
                inner = os.open(each, _FOLDER | os.O_NOFOLLOW, dir_fd=self._descriptor)
                os.close(self._descriptor)
                self._descriptor = inner
            self._folder = folder
        return name, self._descriptor


_warn = lru_cache(10_000)(log.warning)
"""Log a warning once, not at every look."""


def _opened(path: bytes) -> tuple[os.stat_result, bool | None]:
    """Return a file's status, and whether it has a writer, by one descriptor."""
    descriptor = os.open(path, READ)
    try:
        return os.fstat(descriptor), _has_writer(descriptor)
    finally:
        os.close(descriptor)


def _has_writer(descriptor: int) -> bool | None:
    """Return whether a process has the file open for writing; None where that is not known.

    Linux grants a read lease (fcntl(2), F_SETLEASE) only on a file that nobody writes.
    """
    if _LEASE is None:
        return None
    try:
        fcntl.fcntl(descriptor, _LEASE, fcntl.F_RDLCK)  # closing the file releases it
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False
