"""Waiting for files in a folder: inotify ends the wait at once where it reports them.

It reports nothing of folders in the folder, and nothing on some file systems, so that a caller must
look now and then anyway.
"""

import ctypes
import os
import select
import time
from functools import lru_cache
from io import FileIO

_CLOSE_WRITE, _MOVED_TO, _CREATE = 0x008, 0x080, 0x100
"""Events of inotify(7)."""


def wait(folder: bytes, seconds: float) -> None:
    """Wait until something has come into a folder since the last call, for some time at most."""
    events = _events(folder)
    if events is None:
        time.sleep(seconds)
        return
    poll = select.poll()
    poll.register(events, select.POLLIN)
    if poll.poll(1000 * seconds):
        events.read(2**16)  # discarded: the caller looks itself


@lru_cache(8)  # a file that drops out is closed
def _events(folder: bytes) -> FileIO | None:
    """Open the events of a folder; None where inotify is missing, or watches too many already."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "inotify_init1"):
        return None
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    events = FileIO(descriptor)
    mask = _CLOSE_WRITE | _MOVED_TO | _CREATE
    return events if libc.inotify_add_watch(descriptor, folder, mask) >= 0 else None
