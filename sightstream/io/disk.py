"""Locks, which end with their process whatever ends it, and files that a crash leaves whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from sightstream.errors import AlreadyRunningError, EnvironmentUnfitError

T = TypeVar("T")


@contextmanager
def locked(file: Path, mode: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file, which is created where it does not exist, in a mode of flock(2).

    BlockingIOError where another process holds it, and the mode is not to wait.
    """
    with file.open("a") as opened:
        fcntl.flock(opened, mode)
        yield


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Hold the lock of a home folder, which is created: one stream runs on it at a time.

    Raises:
        AlreadyRunningError: another process holds it.
        EnvironmentUnfitError: the folder cannot be written to.
    """
    file, name, other = root / "lock", "the home folder", "give another one with --home"
    with ExitStack() as stack:
        try:
            make(root, name, other)
            stack.enter_context(locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
            file.write_text(str(os.getpid()))
        except BlockingIOError:
            raise AlreadyRunningError(
                f"process {file.read_text() or 'unknown'} runs on {root} already; stop it, or give "
                "another --home"
            ) from None
        except OSError as error:
            raise _unwritable(root, name, error, other) from None
        yield


def dangling(folder: Path) -> str:
    """Return what is wrong with a link to a folder that is not there; empty where nothing is."""
    if not folder.is_symlink() or os.path.exists(folder):  # noqa: PTH110 - also where it is stale
        return ""
    return f"is a link to {os.path.realpath(folder)}, which is not there: mount it"


def make(folder: Path, name: str, other: str = "give another place") -> None:
    """Create a folder, and those above it, if it does not exist; `other` says what to do else.

    Raises:
        EnvironmentUnfitError: something else is in its place, or it cannot be made.
    """
    if why := dangling(folder):
        raise EnvironmentUnfitError(f"{name} {folder} {why}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise EnvironmentUnfitError(
            f"{name} {folder} is not a folder; move what is there away"
        ) from None
    except OSError as error:
        raise _unwritable(folder, name, error, other) from None


def _unwritable(folder: Path, name: str, error: OSError, other: str) -> EnvironmentUnfitError:
    why = f"cannot be written to: {error.strerror}"
    return EnvironmentUnfitError(f"{name} {folder} {why}; {other}, or change its permissions")


def is_held(root: Path, name: str = "lock") -> bool:
    """Return whether a process holds a lock in a home folder: a stream, that of its own name."""
    try:
        with (root / name).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError) as error:
        return isinstance(error, BlockingIOError)
    return False


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder below another, until the block ends; those of killed processes go first."""
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _locked_folder(parent, fcntl.LOCK_EX):
            for left in parent.glob(f"{prefix}*"):
                with suppress(BlockingIOError), _locked_folder(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            made = TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(made))
            stack.enter_context(_locked_folder(folder, fcntl.LOCK_EX))
        yield folder


@contextmanager
def _locked_folder(folder: Path, mode: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Return when the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Give a file a new content; after a crash it has either the old or the new one."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_bytes(content)
    sync(aside)
    aside.replace(path)
    sync(path.parent)


def noted(file: Path, kind: type[T]) -> T:
    """Return the object of a dataclass whose fields a file holds as JSON.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else, as where it is damaged.
    """
    from pydantic import TypeAdapter  # which workers import this module without

    return TypeAdapter(kind).validate_json(file.read_bytes(), strict=True)
