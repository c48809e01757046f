"""Images by uri or path: what may be read, within limits, on this machine or in an object store.

Uris and names come from outside: whatever is wrong with one is a value (`Rejected`).
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from errno import ELOOP
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from sightstream.errors import first_line
from sightstream.images.limits import DEFAULT_LIMITS, Limits, Rejected

Image = str | bytes | Rejected
"""The path of a local file, the content of one, or why there is neither."""

# O_NONBLOCK: opening a FIFO that nobody writes to would wait for a writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Else the first reading after a rename writes the inode again. Only the owner may ask for that.
_NOATIME = getattr(os, "O_NOATIME", 0)

_HADOOP = {"s3a": "s3", "s3n": "s3"}
"""Arrow's schemes for those of Spark's connectors."""

_KEPT = re.compile(
    r"(?s).*(/images/\d{4}-\d\d-\d\d/(?:\d{4}/)?"
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:\.\w+)?)"
)
"""A path or uri that the intake gives an image; its name is the event id, which no other has.

Early releases put all images of a day into one folder.
"""


class Store:
    """Finds the images that uris name; small and picklable, so that it travels with a UDF."""

    def __init__(self, prefixes: Sequence[str] | None, limits: Limits) -> None:
        """Restrict images to the folders with these uris.

        Without prefixes, for uris and paths that the owner of the process names, all are allowed.
        """
        self._prefixes = prefixes
        self._limits = limits

    def __call__(self, uri: str) -> Image:
        """Return the path of a local image, the content of a remote one, or a rejection."""
        prefix: str | None = None
        if self._prefixes is not None:
            prefix = next((each for each in self._prefixes if is_below(uri, [each])), None)
            if prefix is None:
                return Rejected("uri_refused", "Its uri is not below one of kafka_uri_prefixes.")
        try:
            if uri.startswith("file:") or not (prefix or "://" in uri):
                # Links that stay below the prefix are followed here. A file that is swapped for a
                # link between this and the opening is not, and neither is any without a prefix.
                return os.path.realpath(local_path(uri)) if prefix else _own_path(uri)
            bucket = "/".join(uri.split("/", 3)[:3])  # scheme://bucket
            return self._remote(uri, prefix or bucket)
        except FileNotFoundError:
            return Rejected("not_found", "There is no such file.")
        except Exception as error:  # A store's client may raise anything.
            reason = first_line(error)[:200]
            return Rejected("unreadable", f"The file cannot be read: {reason}.")

    def _remote(self, uri: str, prefix: str) -> Image:
        # The store is that of the prefix: hosts and keys that a message's uri names are ignored.
        store, folder = _file_system(prefix.rstrip("/"))
        name = unquote(uri.removeprefix(prefix.rstrip("/") + "/"))
        with store.open_input_file(f"{folder}/{name}") as file:
            found: Image = self._limits.rejection(file.size()) or file.read()
        return found


def read(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> bytes | Rejected:
    """Read a regular file. Follows no symlink, waits for no FIFO, raises no OSError."""
    try:
        try:
            file = os.open(path, _READ | _NOATIME)
        except PermissionError:
            file = os.open(path, _READ)
        try:
            return _read_regular(file, limits)
        finally:
            os.close(file)
    except (FileNotFoundError, NotADirectoryError):
        return Rejected("not_found", "There is no such file.")
    except OSError as error:
        reason = "symbolic links are not followed" if error.errno == ELOOP else error.strerror
        return Rejected("unreadable", f"The file cannot be read: {reason}.")
    except ValueError as error:
        return Rejected("unreadable", f"The file cannot be read: {error}.")


def content(image: Image, limits: Limits) -> bytes | Rejected:
    """Return the content of an image, of which a path is read as `read` does."""
    return read(image, limits) if isinstance(image, str) else image


def local_path(uri: str) -> str:
    """Return the path of a file URI; ValueError where it has another scheme, or names a host."""
    if not uri.startswith("file:///"):
        raise ValueError(f"only file:/// is read here, not {urlsplit(uri).scheme or uri[:20]}")
    return unquote(uri[7:], errors="surrogateescape")


def here(place: str, home: str) -> str:
    """Return the path or uri of an image that the intake took, in the home that is in use.

    Homes are moved and copied; `home` is a path or a uri, as `place` is. Others stay as they are.
    """
    found = _KEPT.fullmatch(place)
    return home + found[1] if found else place


def is_below(uri: str, prefixes: Iterable[str]) -> bool:
    """True for an untrusted uri below a folder, after ".." and symbolic links are resolved."""
    roots = filter(None, map(_resolved, prefixes))
    here = _resolved(uri)
    return any(here.startswith(root + "/") for root in roots)


def _read_regular(file: int, limits: Limits) -> bytes | Rejected:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        return Rejected("unreadable", "It is a folder, a pipe or a device, not a regular file.")
    if rejection := limits.rejection(status.st_size):
        return rejection
    # Appended bytes are left out: the size that was checked is the size that is read.
    data = os.read(file, status.st_size)
    while len(data) < status.st_size and (more := os.read(file, status.st_size - len(data))):
        data += more  # Some network file systems return fewer bytes than requested.
    return data


def _resolved(uri: str) -> str:
    """A uri with ".." and links resolved; empty where it could leave its folder or is invalid."""
    try:
        return "file://" + os.path.realpath(local_path(uri)).rstrip("/")
    except ValueError:  # Another scheme, or a name that no file can have.
        text = unquote(uri)
        return "" if ".." in text.split("/") or "\0" in text else uri.rstrip("/")


def _own_path(uri: str) -> str:
    """The path in a file URI of any form, or a plain path."""
    if uri.startswith("file://"):
        return local_path(uri)
    path = uri.removeprefix("file:")
    # Spark's file sources write file:/a b.jpg, with nothing encoded; Java's URIs are encoded.
    return path if path == uri or os.path.lexists(path) else unquote(path)


@lru_cache(maxsize=16)
def _file_system(root: str) -> tuple[Any, str]:
    """Arrow's file system of a uri, and the folder in it; a client takes long to create."""
    from pyarrow import fs

    scheme, separator, rest = root.partition("://")
    found: tuple[Any, str] = fs.FileSystem.from_uri(_HADOOP.get(scheme, scheme) + separator + rest)
    return found
