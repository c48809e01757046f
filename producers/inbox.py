"""Images into the inbox: each file is completed beside it, then moved in at once."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sightstream.errors import EnvironmentUnfitError, InputError

T = TypeVar("T")


def find(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Walks files, and yields each with the name that it gets at its destination.

    Args:
        paths: a file keeps its name, a file of a folder its path from the folder's name on.

    Raises:
        InputError: a path does not exist, or there is no file in any of them.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise InputError(f"there is no file or folder {path}")
    found = chain.from_iterable(map(_files, paths))
    first = next(found, None)
    if first is None:
        raise InputError(f"there are no files in {', '.join(map(str, paths))}")
    return chain([first], found)


def _files(path: Path) -> Iterator[tuple[Path, Path]]:
    if not path.is_dir():
        yield path, Path(path.name)
        return
    path = path.resolve()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file():
                yield file, file.relative_to(path.parent)


def paced(files: Iterable[T], rate: float | None) -> Iterator[T]:
    """Yields files at a rate; a consumer that was late gets the next ones at once.

    Args:
        files: to yield.
        rate: files a second; None: no limit.
    """
    begin = time.monotonic()
    for number, file in enumerate(files):
        if rate:
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        yield file


class Dropper:
    """Copies images into the inbox, in a `with` block."""

    def __init__(self, inbox: Path, staging: Path) -> None:
        """Remembers the folders.

        Args:
            inbox: gets the images.
            staging: a folder on the file system of the inbox, where files are completed.
        """
        self._inbox = inbox
        self._staging = staging

    def __enter__(self) -> Dropper:
        """Creates the folders.

        Raises:
            EnvironmentUnfitError: they cannot be written to.
        """
        try:
            for folder in (self._inbox, self._staging):
                folder.mkdir(parents=True, exist_ok=True)
            self._place = tempfile.TemporaryDirectory(dir=self._staging)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"{self._inbox} cannot be written to: {error.strerror}"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Removes files that were not moved into the inbox."""
        self._place.cleanup()

    def drop(self, file: Path, name: Path) -> None:
        """Copies a file into the inbox; a name that still waits there is followed by a number.

        Args:
            file: what to copy.
            name: its path below the inbox.

        Raises:
            InputError: it cannot be read.
        """
        whole = Path(self._place.name) / "image"
        try:
            shutil.copyfile(file, whole)
        except OSError as error:
            raise InputError(f"{file} cannot be copied: {error.strerror}") from None
        target = self._inbox / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for number in count(2):
            try:
                os.link(whole, target)  # which, unlike a rename, replaces nothing
            except FileExistsError:
                target = target.with_name(f"{name.stem} ({number}){name.suffix}")
            else:
                break
        whole.unlink()
