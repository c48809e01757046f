"""Buckets: their objects in pages, and one by one; S3 by its own client, others through Arrow.

Credentials come from where the providers' clients look for them; none is part of a uri here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from sightstream.errors import ConfigError, EnvironmentUnfitError, first_line
from sightstream.images.limits import Limits
from sightstream.images.store import Image
from sightstream.io.ignored import Ignored

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "abfs": "abfs", "abfss": "abfss"}
"""Schemes of buckets, and the one that rows name each by."""

PAGE = 1000  # objects in a page, at most


class Object(NamedTuple):
    """An object in a bucket; a store gives each content under a key another version."""

    key: str
    version: str
    """S3's ETag; elsewhere the time of change and the size."""
    size: int
    modified: float  # seconds since the epoch, by the store's clock


class AwayError(OSError):
    """A bucket does not answer, or refuses an answer; the text is one line without secrets."""


class Bucket(Protocol):
    """A bucket, or a container; small and picklable. Every method may raise `AwayError`."""

    @property
    def root(self) -> str:
        """Its uri, which ends in a slash."""

    @property
    def sorts(self) -> bool:
        """Whether `pages` can begin behind a key, at no cost for those before it."""

    def pages(self, folder: str, after: str = "") -> Iterator[list[Object]]:
        """Yield the objects whose keys begin with `folder`, those behind a key alone."""

    def find(self, key: str) -> Object | None:
        """Return the object that has a key now."""

    def read(self, key: str, version: str, limits: Limits) -> Image:
        """Return the content of that very version, or of any where it is empty; or a rejection."""

    def probe(self, folder: str) -> None:
        """Return where objects below a folder can be listed."""


class Place(NamedTuple):
    """A folder in a bucket; its name ends in a slash, or is empty."""

    bucket: Bucket
    folder: str

    def has_image(self, each: Object, is_ignored: Ignored) -> bool:
        """Tell whether an object of the folder may be an image, and none that is left alone."""
        # What ends in a slash and is empty stands for a folder.
        if each.key.endswith("/") and not each.size:
            return False
        names = each.key[len(self.folder) :].split("/")
        return not any(is_ignored(name.encode("utf-8", "replace")) for name in names if name)

    @property
    def uri(self) -> str:
        """The folder's uri."""
        return uri_of(self.bucket, self.folder)


def place(uri: str) -> Place:
    """Return the place that a user names by a uri.

    Raises:
        ConfigError: it is no uri of a bucket, or holds more than that.
        ModuleNotFoundError: the extra `bucket` is not installed.
    """
    require_bucket(uri)
    root, path = _split(uri)
    folder = path.strip("/")
    return Place(opened(root), f"{folder}/" if folder else "")


def require_bucket(uri: str) -> None:
    """Raise ConfigError for what is no uri of a bucket; a secret in it is not repeated."""
    scheme, found, _ = uri.partition("://")
    if not found or scheme not in SCHEMES:
        raise ConfigError(
            "the uri of a bucket is s3://photos/incoming/, gs://... or "
            "abfs://container@account.dfs.core.windows.net/...; a folder that is no bucket is "
            "named by its path where one may be named"
        )
    try:
        parts = urlsplit(uri)
        user, at, host = parts.netloc.rpartition("@")
        fits = host and not (parts.query or parts.fragment or ":" in user)
    except ValueError:  # of brackets, which hold an address of IPv6, and none does here
        fits = False
    if not fits or (at and scheme[0] != "a"):
        raise ConfigError(
            f"the uri of a bucket is {scheme}://, its name and a folder, without users, passwords "
            "or options; credentials come from the environment or the provider's files"
        )


@lru_cache(16)
def opened(root: str) -> Bucket:
    """Return the bucket at `scheme://bucket/`."""
    scheme, _, rest = root.partition("://")
    if SCHEMES[scheme] == "s3":
        from streaming.bucket.s3 import S3

        return S3(rest.rstrip("/"))
    from streaming.bucket.arrow import Arrow

    return Arrow(f"{SCHEMES[scheme]}://{rest}")


def uri_of(bucket: Bucket, key: str) -> str:
    """Return the uri of an object, as rows have it."""
    return bucket.root + quote(key, safe="/")


def located(uri: str) -> tuple[Bucket, str]:
    """Return the bucket and the key that the uri of an object names."""
    root, key = _split(uri)
    return opened(root), key


def claim(bucket: Bucket, each: Object) -> str:
    """Return an object's uri and its version, as manifests have it."""
    return f"{uri_of(bucket, each.key)}#{quote(each.version, safe='')}"


def claimed(text: str) -> tuple[Bucket, str, str]:
    """Return bucket, key and version of a `claim`."""
    uri, _, version = text.partition("#")
    return *located(uri), unquote(version)


@contextmanager
def reached(named: str) -> Iterator[None]:
    """Raise EnvironmentUnfitError where a bucket, so named, does not answer in the block."""
    try:
        yield
    except AwayError as error:
        raise EnvironmentUnfitError(
            f"{named} cannot be reached: {error}; docs/images-in.md tells where its address and "
            "credentials come from"
        ) from None


def sentence(error: object) -> str:
    """Return an error's first line, without what uris in it may hold of users and options."""
    text = re.sub(r"//[^/\s@\"']*@", "//", first_line(error))
    return re.sub(r"\?[^\s\"']*", "", text)[:200].rstrip(". ")


def _split(uri: str) -> tuple[str, str]:
    scheme, _, rest = uri.partition("://")
    name, _, path = rest.partition("/")
    return f"{scheme}://{name}/", unquote(path)
