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
from sightstream.io.folder import files

log = logging.getLogger(__name__)

FULL = {ENOSPC, EDQUOT}
_TAKEN = b".sightstream-"


def move(path: bytes, target: str) -> None:
    """Move a file by a copy that is on the disk before the file is removed.

    Raises:
        OSError: It cannot be moved or read, and is where it was; or the disk is full, and `finish`
            has to be called.
    """
    held = os.path.join(os.path.dirname(path), _name(target))  # noqa: PTH118, PTH120
    os.rename(path, held)  # noqa: PTH104
    try:
        _complete(held, Path(target))
    except OSError as error:
        if error.errno not in FULL:
            _give_back(held, path)
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
                _complete(entry.path, Path(target))
            except OSError as error:
                if error.errno in FULL:
                    raise
                log.warning("%s stays in the inbox: %s", readable(entry.path), error.strerror)


def begun(inbox: bytes) -> list[str]:
    """Return the names of the targets to which `move` has begun to move files."""
    names = (os.fsdecode(entry.name) for entry in files(inbox) if entry.name.startswith(_TAKEN))
    return [name.removeprefix(os.fsdecode(_TAKEN)) for name in names]


def _give_back(held: bytes, path: bytes) -> None:
    """Give a file its name again; it arrives by the other one where a file of that name has come.

    A rename replaces what has that name, so that it is the last resort, of file systems without
    links, once nothing has it.
    """
    with suppress(OSError):
        try:
            os.link(held, path)
        except FileExistsError:
            return
        except OSError:
            if not os.path.lexists(path):
                os.rename(held, path)  # noqa: PTH104
            return
        os.unlink(held)  # noqa: PTH108


def _name(target: str) -> bytes:
    return _TAKEN + os.fsencode(os.path.basename(target))  # noqa: PTH119


def _complete(held: bytes, target: Path) -> None:
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = target.with_name(f"{target.name}.copy")
        copy.unlink(missing_ok=True)
        if stat.S_ISREG(os.lstat(held).st_mode):
            # One that was swapped for a link since becomes a link, which is never followed.
            shutil.copyfile(held, copy, follow_symlinks=False)
        else:
            copy.touch()  # its event says why there is no image
        disk.sync(copy)
        copy.rename(target)
        disk.sync(target.parent)
    os.unlink(held)  # noqa: PTH108
