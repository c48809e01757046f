"""A bucket of another store than S3, through Arrow's file systems: Google's and Azure's.

They list a folder at once, from its beginning, and name no version of an object: its time of change
and its size stand for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sightstream.images.limits import Limits
from sightstream.images.store import Image
from streaming.bucket.s3 import CHANGED, GONE
from streaming.bucket.store import PAGE, AwayError, Object, sentence

_PATIENCE = 10  # seconds until a bucket of Google's that does not answer counts as away


@dataclass(frozen=True)
class Arrow:
    """A bucket by its uri; see `streaming.bucket.store.Bucket`."""

    root: str
    sorts: Final = False

    def pages(self, folder: str, after: str = "") -> Iterator[list[Object]]:
        """Yield the objects of one folder after the other; Google's all at once."""
        from pyarrow.fs import FileSelector, FileType

        folders = [folder]
        while folders:
            here = folders.pop()
            with _told():
                store, base = _file_system(self.root)
                # Of Google's folders, only those that are objects of their own would be listed.
                whole = self.root.startswith("gs://")
                at = f"{base}/{here}".rstrip("/")
                found = store.get_file_info(FileSelector(at, allow_not_found=True, recursive=whole))
            named = sorted((each.path[len(base) + 1 :], each) for each in found)
            folders += [
                f"{key}/" for key, each in reversed(named)
                if each.type == FileType.Directory and each.base_name and not whole
            ]  # fmt: skip
            files = [
                _object(key, each)
                for key, each in named
                if each.type == FileType.File and key > after
            ]
            for start in range(0, len(files), PAGE):
                yield files[start : start + PAGE]

    def find(self, key: str) -> Object | None:
        """Return the object that has a key now."""
        from pyarrow.fs import FileType

        with _told():
            store, base = _file_system(self.root)
            found = store.get_file_info(f"{base}/{key}")
        return _object(key, found) if found.type == FileType.File else None

    def read(self, key: str, version: str, limits: Limits) -> Image:
        """Return the content; its time of change and its size are compared before and after."""
        found = self.find(key)
        if found is None:
            return GONE
        if version and found.version != version:
            return CHANGED
        if rejection := limits.rejection(found.size):
            return rejection
        with _told():
            store, base = _file_system(self.root)
            try:
                with store.open_input_file(f"{base}/{key}") as file:
                    content = bytes(file.read())
            except FileNotFoundError:
                return GONE
        after = self.find(key)
        return content if after == found else CHANGED if after else GONE

    def probe(self, folder: str) -> None:
        """Ask for the folder, and whether its bucket is there."""
        from pyarrow.fs import FileType

        with _told():
            store, base = _file_system(self.root)
            if store.get_file_info(base).type == FileType.NotFound:
                raise AwayError(f"there is no bucket {base}")


@lru_cache(16)
def _file_system(root: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    found: tuple[Any, str] = FileSystem.from_uri(_address(root.rstrip("/")))
    return found


def _address(uri: str) -> str:
    """Return Arrow's uri of a bucket; Google's client would try again for 15 minutes."""
    if not uri.startswith("gs://"):
        return uri
    limit = f"retry_limit_seconds={_PATIENCE}"
    # As Google's own clients read it; Arrow does not.
    scheme, _, host = os.environ.get("STORAGE_EMULATOR_HOST", "").rpartition("://")
    if not host:
        return f"{uri}?{limit}"
    name = uri.removeprefix("gs://")
    return f"gs://anonymous@{name}?scheme={scheme or 'http'}&endpoint_override={host}&{limit}"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise AwayError(sentence(error)) from None


def _object(key: str, found: Any) -> Object:
    time, size = found.mtime_ns or 0, found.size or 0
    return Object(key, f"{time:x}-{size:x}", size, time / 1e9)
