"""Waiting for what comes into a folder: where the system tells of it, no time is lost.

It does not tell of folders in the folder, nor on every file system: one looks now and then anyway.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from functools import lru_cache
from io import FileIO

_CLOSE_WRITE, _MOVED_TO, _CREATE = 0x008, 0x080, 0x100
"""Of inotify(7)."""


def wait(folder: bytes, seconds: float) -> None:
    """Waits until something has come into a folder since the last call, or for some time.

    Args:
        folder: its path.
        seconds: to wait at most.
    """
    told = _told(folder)
    if told is None:
        time.sleep(seconds)
        return
    poll = select.poll()
    poll.register(told, select.POLLIN)
    if poll.poll(1000 * seconds):
        told.read(2**16)  # what it was; a look tells


@lru_cache(8)  # one that drops out is closed
def _told(folder: bytes) -> FileIO | None:
    """Where the system tells of a folder; None if it does not, or of too many already."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "inotify_init1"):
        return None
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    told = FileIO(descriptor)
    mask = _CLOSE_WRITE | _MOVED_TO | _CREATE
    return told if libc.inotify_add_watch(descriptor, folder, mask) >= 0 else None
