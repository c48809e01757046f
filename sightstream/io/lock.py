"""The lock of a home folder: one stream runs on it at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightstream.errors import AlreadyRunningError, EnvironmentUnfitError


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Hold the home folder's lock; the system releases it whatever ends the process.

    Args:
        root: the home folder; created where it does not exist.

    Raises:
        AlreadyRunningError: another process holds it.
        EnvironmentUnfitError: the folder cannot be written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the home folder {root} cannot be written to: {error.strerror}; give another one with "
            "--home, or change its permissions"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode() or "unknown"
            raise AlreadyRunningError(
                f"process {owner} runs on {root} already; stop it, or give another --home"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def is_held(root: Path) -> bool:
    """Return whether a stream holds the home folder's lock."""
    try:
        with (root / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
