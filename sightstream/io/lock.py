"""Locks on files, which the system releases whatever ends their process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sightstream.errors import AlreadyRunningError, EnvironmentUnfitError


@contextmanager
def locked(file: Path, mode: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file, which is created where it does not exist.

    Args:
        file: in a folder that exists.
        mode: of flock(2).

    Raises:
        BlockingIOError: another process holds it, and `mode` says not to wait.
    """
    with file.open("a") as opened:
        fcntl.flock(opened, mode)
        yield


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Hold the lock of a home folder: one stream runs on it at a time.

    Args:
        root: the home folder; created where it does not exist.

    Raises:
        AlreadyRunningError: another process holds it.
        EnvironmentUnfitError: the folder cannot be written to.
    """
    file = root / "lock"
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
            file.write_text(str(os.getpid()))
        except BlockingIOError:
            raise AlreadyRunningError(
                f"process {file.read_text() or 'unknown'} runs on {root} already; stop it, or give "
                "another --home"
            ) from None
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the home folder {root} cannot be written to: {error.strerror}; give another one "
                "with --home, or change its permissions"
            ) from None
        yield


def is_held(root: Path) -> bool:
    """Return whether a stream holds the home folder's lock."""
    try:
        with (root / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError) as error:
        return isinstance(error, BlockingIOError)
    return False
