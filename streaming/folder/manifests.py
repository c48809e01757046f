"""Manifests: Arrow files of accepted images, a row each; their names are in order of arrival.

A manifest names an image by its place below the folder `images` beside its own, so that a home may
be moved while images wait.
"""

import logging
import os
import re
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.io import disk
from sightstream.tables.schema import EVENT

log = logging.getLogger(__name__)

SUFFIX = ".arrow"
PENDING = "pending"  # begins the name of a manifest that is not published yet

Offset = dict[str, str]  # the position after a manifest, by its name; empty before the first
KEY = "manifest"  # name of an offset's only field
_MANIFEST = re.compile(r"\d{20}\.arrow$")
_NOT_YET = re.compile(rf"{PENDING}(-[0-9a-f-]{{36}})?")
_DIGEST = b"sha256"
_ABSOLUTE = "file:"  # begins the uris of manifests that early releases wrote


def published(manifests: Path, after: str = "") -> list[str]:
    """Return the names of the manifests after one, in the order of their publication."""
    names = (entry.name for entry in os.scandir(manifests))
    return sorted(name for name in names if name > after and _MANIFEST.match(name))


def pending(manifests: Path) -> list[Path]:
    """Return what is not published yet; more than one only where files were copied here."""
    return sorted(p for p in manifests.glob(f"{PENDING}*") if _NOT_YET.fullmatch(p.name))


def between(folder: Path, start: Offset, end: Offset | None = None) -> list[Path]:
    """Return the manifests after an offset, up to another one or to the newest."""
    names = published(folder, after=start.get(KEY, ""))
    return [folder / name for name in names if end is None or name <= end[KEY]]


def write(path: Path, events: pa.Table) -> None:
    """Write a manifest that holds its own checksum, and sync it to the disk."""
    sink, place = pa.BufferOutputStream(), os.urandom(32).hex().encode()
    with pa.ipc.new_file(sink, EVENT.with_metadata({_DIGEST: place})) as writer:
        writer.write_table(events)
    content = sink.getvalue().to_pybytes()
    path.write_bytes(content.replace(place, _digest(content, place)))
    disk.sync(path)


def _digest(content: bytes, place: bytes) -> bytes:
    """Return the checksum of a manifest, which stands in some places of it itself."""
    return sha256(content.replace(place, bytes(len(place)))).hexdigest().encode()


def publish(manifests: Path, listed: Path) -> None:
    """Make a file that was written the newest manifest; a disk that does not sync that is told."""
    # Names rise even if the clock is set back, since the newest manifest is never deleted.
    last = max(published(manifests), default="0" + SUFFIX)
    number = max(time.time_ns(), int(last.removesuffix(SUFFIX)) + 1)
    path = listed.rename(manifests / f"{number:020d}{SUFFIX}")
    try:
        disk.sync(manifests)
    except OSError as error:  # its images are on their way: an error would say that they are not
        log.error("after a loss of power the name of %s may be lost: %s", path, error)


def read(manifests: Sequence[Path]) -> pa.Table:
    """Return the events of manifests, in their order; see `placed` for their uris.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is cut short, or is no manifest.
    """
    # An empty table costs Spark's reader 27 MB: pyarrow imports pandas to make one.
    return pa.concat_tables([*map(_read, manifests)] or [EVENT.empty_table()])


def placed(events: pa.Table, images: Path) -> pa.Table:
    """Return events of manifests with the uris that their images have below a home's `images`."""
    uris = pc.binary_join_element_wise(images.as_uri(), places(events), "/")
    return events.set_column(EVENT.get_field_index("uri"), EVENT.field("uri"), uris)


def places(events: pa.Table) -> pa.ChunkedArray:
    """Return where the images of manifests are below a home's `images`."""
    found = events["uri"]
    if pc.any(pc.starts_with(found, _ABSOLUTE)).as_py():
        found = pc.replace_substring_regex(found, ".*/([^/]+/[^/]+)$", r"\1")
    return found


def _read(path: Path) -> pa.Table:
    content = path.read_bytes()
    try:
        events = pa.ipc.open_file(content).read_all()
        events.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is cut short, or no manifest: {error}") from None
    said = (events.schema.metadata or {}).get(_DIGEST)
    if said and _digest(content, said) != said:
        raise ValueError(f"{path} is damaged: its checksum differs")
    if events.schema != EVENT:
        raise ValueError(f"{path} has the fields {events.schema.names} instead of {EVENT.names}")
    return events.replace_schema_metadata()
