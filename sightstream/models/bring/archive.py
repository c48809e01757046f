"""Unpacks an archive that is not trusted."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from sightstream.errors import InputError

MOST_BYTES = 2**31
MOST_FILES = 10_000


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a zip; returns the folder that holds its files, without a lonely one above them.

    Raises:
        InputError: a path leads out of the archive, or it would expand beyond the limits.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            require_safe(path, archive.infolist())
            archive.extractall(folder)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be unpacked: {error}") from error
    inside = [each for each in folder.iterdir() if each.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def require_safe(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse links, paths that leave the archive, and sizes beyond the limits."""
    for member in members:
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or ":" in (parts or ("",))[0]:
            raise InputError(f"{path} holds {member.filename!r}, which leads out of the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"{path} holds the link {member.filename!r}; archives must hold files")
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES or len(members) > MOST_FILES:
        raise InputError(
            f"{path} would expand to {total / 2**30:.1f} GiB in {len(members):,} files; the limits "
            f"are {MOST_BYTES >> 30} GiB and {MOST_FILES:,}"
        )
