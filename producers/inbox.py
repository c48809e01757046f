"""Images into the inbox: each file is completed beside it, then moved in at once."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from sightstream.errors import EnvironmentUnfitError, InputError
from sightstream.io import disk
from sightstream.io.ignored import Ignored, ignored

T = TypeVar("T")
Drop = Callable[[Path, Path], None]


def find(paths: Sequence[Path], ignore: Iterable[str] = ()) -> Iterator[tuple[Path, Path]]:
    """Yields each file below some paths with its name at the destination.

    A file keeps its name; one in a folder is named by its path from the folder's name on. Names
    that the inbox leaves alone are left out; `ignore` are patterns of further ones.

    Raises:
        InputError: a path does not exist, is left alone by its name, or there is no file in any.
    """
    is_ignored = ignored(ignore)
    for path in paths:
        if not os.path.lexists(path):
            raise InputError(f"there is no file or folder {path}")
        if is_ignored(os.fsencode(path.absolute().name)):
            raise InputError(
                f"{path} has a name of unfinished uploads or of other programs' files, which the "
                "inbox leaves alone; rename it"
            )
    found = chain.from_iterable(_files(path, is_ignored) for path in paths)
    first = next(found, None)
    if first is None:
        raise InputError(f"there are no files in {', '.join(map(str, paths))}")
    return chain([first], found)


def require_apart(paths: Iterable[Path], inbox: Path) -> None:
    """Raises InputError where an inbox lies below a path: it would be copied into itself."""
    for path in paths:
        if Path(os.path.realpath(inbox)).is_relative_to(os.path.realpath(path)):
            raise InputError(
                f"{path} holds the inbox {inbox}, with what a stream makes of it; name a folder of "
                "images alone"
            )


def _files(path: Path, is_ignored: Ignored) -> Iterator[tuple[Path, Path]]:
    if not path.is_dir():
        yield path, Path(path.name)
        return
    path = path.resolve()
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not is_ignored(os.fsencode(name)))
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file() and not is_ignored(os.fsencode(name)):
                yield file, file.relative_to(path.parent)


def paced(files: Iterable[T], rate: float | None) -> Iterator[T]:
    """Yields files at a rate a second, None for no limit; a late consumer gets the next at once."""
    begin = time.monotonic()
    for number, file in enumerate(files):
        if rate:
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        yield file


@contextmanager
def dropping(inbox: Path, staging: Path) -> Iterator[Drop]:
    """Yields a function that copies a file to a path below the inbox, under another name if taken.

    Copies are completed in `staging`, or in the inbox where that is on another file system.

    Raises:
        EnvironmentUnfitError: the folders cannot be written to.
        InputError: a file cannot be read; the yielded function raises it.
    """
    try:
        if why := disk.dangling(inbox):
            raise EnvironmentUnfitError(f"the inbox {inbox} {why}")
        for folder in (inbox, staging):
            folder.mkdir(parents=True, exist_ok=True)
        apart = inbox.stat().st_dev != staging.stat().st_dev
        place = TemporaryDirectory(dir=inbox if apart else staging, prefix=".drop-")
    except OSError as error:
        raise EnvironmentUnfitError(f"{inbox} cannot be written to: {error.strerror}") from None
    with place:
        yield partial(_drop, inbox, Path(place.name, "image.part"))


def _drop(inbox: Path, whole: Path, file: Path, name: Path) -> None:
    if file.exists() and not file.is_file():
        raise InputError(f"{file} is a pipe or a device, and no file")
    try:
        shutil.copyfile(file, whole)
    except OSError as error:
        raise InputError(f"{file} cannot be copied: {error.strerror}") from None
    target = inbox / name
    target.parent.mkdir(parents=True, exist_ok=True)
    for number in count(2):
        try:
            os.link(whole, target)  # which, unlike a rename, replaces nothing
        except FileExistsError:
            target = target.with_name(f"{name.stem} ({number}){name.suffix}")
        else:
            break
    whole.unlink()
