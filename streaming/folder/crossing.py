"""Files that come from another file system, where no rename can move them.

The rename to a name of ours, beside the file, is the moment at which it is taken: no other program
knows that name, and it leads to the target, so that `finish` completes what a crash interrupted.
"""

import logging
import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path

from sightstream.images.event import readable
from sightstream.io import disk
from sightstream.io.folder import READ, Beneath, files

log = logging.getLogger(__name__)

FULL = {ENOSPC, EDQUOT}
_TAKEN = b".sightstream-"
_PIECE = 2**20


def move(path: bytes, target: str, folder: int | None) -> None:
    """Move a file, named as `Beneath` does, by a copy that is on the disk before it is removed.

    Raises:
        OSError: It cannot be moved or read, and is where it was; or the disk is full, and `finish`
            has to be called.
    """
    held = os.path.join(os.path.dirname(path), _name(target))  # noqa: PTH118, PTH120
    os.rename(path, held, src_dir_fd=folder, dst_dir_fd=folder)
    try:
        _complete(held, Path(target), folder)
    except OSError as error:
        if error.errno not in FULL:
            _give_back(held, path, folder)
        raise


def finish(inbox: bytes, targets: Iterable[str]) -> None:
    """Complete what `move` to these targets has begun; a file that cannot be read arrives anew.

    Raises:
        OSError: The disk is full.
    """
    begun = {_name(target): target for target in targets}
    for entry in files(inbox):
        if target := begun.get(entry.name):
            try:
                with Beneath(inbox) as beneath:
                    name, folder = beneath(entry.path)
                    _complete(name, Path(target), folder)
            except OSError as error:
                if error.errno in FULL:
                    raise
                log.warning("%s stays in the inbox: %s", readable(entry.path), error.strerror)


def begun(inbox: bytes) -> list[str]:
    """Return the names of the targets to which `move` has begun to move files."""
    names = (os.fsdecode(entry.name) for entry in files(inbox) if entry.name.startswith(_TAKEN))
    return [name.removeprefix(os.fsdecode(_TAKEN)) for name in names]


def _give_back(held: bytes, path: bytes, folder: int | None) -> None:
    """Give a file its name again; it arrives by the other one where a file of that name has come.

    A rename replaces what has that name, so that it is the last resort, of file systems without
    links, once nothing has it.
    """
    with suppress(OSError):
        at = {"src_dir_fd": folder, "dst_dir_fd": folder}
        try:
            os.link(held, path, **at, follow_symlinks=False)
        except FileExistsError:
            return
        except OSError:
            try:
                os.stat(path, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(held, path, **at)  # noqa: PTH104
            return
        os.unlink(held, dir_fd=folder)


def _name(target: str) -> bytes:
    return _TAKEN + os.fsencode(os.path.basename(target))  # noqa: PTH119


def _complete(held: bytes, target: Path, folder: int | None) -> None:
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = target.with_name(f"{target.name}.copy")
        copy.unlink(missing_ok=True)
        if stat.S_ISREG(os.stat(held, dir_fd=folder, follow_symlinks=False).st_mode):
            _copy(os.open(held, READ, dir_fd=folder), copy)
        else:
            copy.touch()  # its event says why there is no image
        disk.sync(copy)
        copy.rename(target)
        disk.sync(target.parent)
    os.unlink(held, dir_fd=folder)


def _copy(descriptor: int, copy: Path) -> None:
    """Copy what was opened; a name may lead elsewhere by then."""
    with open(descriptor, "rb") as opened, copy.open("xb") as written:
        shutil.copyfileobj(opened, written, _PIECE)
