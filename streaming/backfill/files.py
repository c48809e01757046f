"""The images of a folder, or below a uri of an object store, as events."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

import pyarrow as pa

from sightstream import terminal
from sightstream.errors import ConfigError, InputError
from sightstream.images.event import readable
from sightstream.images.store import local_path
from sightstream.io import folder
from sightstream.io.ignored import Ignored, ignored
from sightstream.tables.schema import EVENT
from streaming.bucket.store import Object, Place, reached
from streaming.bucket.store import place as bucket_place
from streaming.bucket.store import uri_of as object_uri

SOURCE = "backfill"
"""The column `source` of all rows."""

FOUND = EVENT.append(pa.field("confined", pa.bool_())).append(pa.field("version", pa.string()))
"""Schema of events; one is `confined` to what the stream may read if a stranger named its uri.

Of an object that was listed, its `version` is the one that is read; empty is any, of an object that
a stream has read before. What reads these waits for no bucket: one that is away ends it.
"""


_TIME = pa.timestamp("us", "UTC")


class File(NamedTuple):
    """A file as it was listed; its name is the path below what was listed."""

    uri: str
    name: str
    size: int
    changed: int  # nanoseconds since the epoch
    version: str | None = None  # of an object


def is_remote(place: str) -> bool:
    """Tell whether a place is a uri of an object store, and not of a local file."""
    return "://" in place and not place.startswith("file:")


def absolute(place: str) -> str:
    """Return the uri of a bucket's folder, and the path of anything else without links and dots.

    Ids of images follow from it: one folder has one.

    ConfigError for a uri that is none, or that holds more than that.
    """
    if is_remote(place):
        return bucket_place(place).uri.rstrip("/")
    path = local_path(place) if place.startswith("file:///") else place
    if "\0" in path:
        raise ConfigError(f"{terminal.printable(path)} is the path of no file: it has a zero byte")
    # As a shell does, it leaves the name of a user who is not known as it is.
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111


def uri_of(place: str) -> str:
    """Return the uri of a place that `absolute` returned."""
    return place if is_remote(place) else f"file://{quote(os.fsencode(place))}"


def listed(place: str, ignore: Iterable[str]) -> tuple[list[File], dict[str, str]]:
    """List the files below a place; names that the inbox leaves alone are left out.

    Returns:
        The files, in order of their names, and what cannot be looked into, with the reason.

    Raises:
        InputError: The place does not exist, or cannot be listed.
    """
    is_ignored = ignored(ignore)
    if is_remote(place):
        return _objects(bucket_place(place), is_ignored), {}
    root, unreadable = os.fsencode(place), dict[bytes, str]()
    if not Path(place).is_dir():
        raise InputError(f"{terminal.printable(place)} is no folder, table or uri of images")
    found = [_local(root, each) for each in folder.files(root, is_ignored, unreadable=unreadable)]
    files = sorted((each for each in found if each), key=_name)
    return files, {readable(path): why for path, why in unreadable.items()}


def columns(files: Sequence[File]) -> pa.Table:
    """Return what a condition on files can name."""
    changed = pa.array([each.changed for each in files], pa.timestamp("ns", "UTC"))
    given = {
        "original_name": [each.name for each in files], "uri": [each.uri for each in files],
        "bytes": [each.size for each in files], "modified": changed.cast(_TIME, safe=False),
    }  # fmt: skip
    return pa.table(given)


def events(files: Sequence[File], now: float) -> pa.Table:
    """Return an event of `FOUND` for each file, all of which arrive now.

    An id follows from uri, size and time of the last change, or an object's version: the same file
    is the same event.
    """
    states = [f.version or f"{f.size},{f.changed}" for f in files]
    ids = [
        str(uuid5(NAMESPACE_URL, f"{f.uri}#{s}")) for f, s in zip(files, states, strict=True)
    ]  # fmt: skip
    columns = {
        "event_id": ids, "uri": [f.uri for f in files], "original_name": [f.name for f in files],
        "bytes": [f.size for f in files], "version": [f.version for f in files],
    }  # fmt: skip
    return found(columns, len(files), now)


def found(columns: dict[str, Any], count: int, now: float) -> pa.Table:
    """Return a table of `FOUND` of some columns; the others have what they mostly have."""
    usual = {
        "source": pa.repeat(SOURCE, count), "event_time": pa.repeat(now, count),
        "confined": pa.repeat(False, count),
    }  # fmt: skip
    given = usual | columns
    return pa.table(
        [given.get(name, pa.nulls(count)) for name in FOUND.names], FOUND.names
    ).cast(FOUND)  # fmt: skip


def _local(root: bytes, entry: os.DirEntry[bytes]) -> File | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # it went meanwhile, or its row will say why it cannot be read
        return None
    name = readable(os.path.relpath(entry.path, root))
    return File(f"file://{quote(entry.path)}", name, status.st_size, status.st_mtime_ns)


def _objects(place: Place, is_ignored: Ignored) -> list[File]:
    def file(each: Object) -> File:
        uri, name = object_uri(place.bucket, each.key), each.key[len(place.folder) :]
        return File(uri, name, each.size, int(each.modified * 1e9), each.version)

    with reached(place.uri):
        pages = [*place.bucket.pages(place.folder)]
    images = (each for page in pages for each in page if place.has_image(each, is_ignored))
    return sorted(map(file, images), key=_name)


def _name(file: File) -> str:
    return file.name
