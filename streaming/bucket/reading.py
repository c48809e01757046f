"""Reads the objects that manifests name, in Spark's workers, each in the version of its event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.images.limits import Limits, Rejected
from sightstream.images.store import Image
from streaming.bucket.store import AwayError, Bucket, claimed
from streaming.folder.assignment import assigned

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from sightstream.scoring.framed import Piece

AT_ONCE = 16  # requests of a task
PIECE_BYTES = 64 * 2**20  # of images that a task holds, but for a single one; twice while it reads
TRIES = 3


@dataclass(frozen=True)
class AssignedObjects:
    """Reader of the objects that are assigned to tasks; goes to the workers with the UDF."""

    manifests: Path
    limits: Limits

    def __call__(self, rows: pd.DataFrame, assignment: str) -> Iterator[Piece]:
        """Yield the events of each task in pieces, with the content of their objects.

        Raises:
            AwayError: the bucket does not answer.
            OSError: this machine does not see all of a manifest.
        """
        return objects(assigned(rows, assignment, self.manifests), self.limits)


def objects(events: Iterable[pa.Table], limits: Limits) -> Iterator[Piece]:
    """Yield events whose uris are claims in pieces, with the content of their objects.

    Those with an error have none. The next piece is read meanwhile. Raises as `read` does.
    """
    pieces = (part for each in events for part in _small(each, limits.max_bytes))
    with ThreadPoolExecutor(AT_ONCE) as threads:

        def begin(piece: pa.Table) -> tuple[pa.Table, list[Future[Image] | None]]:
            claims = zip(piece["uri"].to_pylist(), piece["error_code"].to_pylist(), strict=True)
            return piece, [None if code else threads.submit(read, c, limits) for c, code in claims]

        try:
            now = next(map(begin, pieces), None)
            while now:
                following = next(map(begin, pieces), None)
                yield _named(now[0]), [each.result() if each else None for each in now[1]]
                now = following
        finally:
            threads.shutdown(cancel_futures=True)


def read(claim: str, limits: Limits) -> Image:
    """Return the content of an object, or why it has none.

    Raises:
        AwayError: the whole bucket does not answer, so that the object must be read later.
    """
    return read_object(*claimed(claim), limits)


def read_object(bucket: Bucket, key: str, version: str, limits: Limits) -> Image:
    """Return the content of a version, or of the newest; else as `read`."""
    for _ in range(TRIES):
        try:
            return bucket.read(key, version, limits)
        except AwayError as error:
            fault = error
            # What one object alone does is its own fault, and becomes its row.
            bucket.probe(key.rpartition("/")[0])
    return Rejected("unreadable", f"The object cannot be read: {fault}.")


def _small(events: pa.Table, most: int) -> Iterator[pa.Table]:
    ends, held = [0], 0
    for number, size in enumerate(events["bytes"].to_pylist()):
        held += size if size <= most else 0
        if held > PIECE_BYTES and number > ends[-1]:
            ends.append(number)
            held = size
    for start, end in pairwise([*ends, len(events)]):
        yield events.slice(start, end - start)


def _named(events: pa.Table) -> pa.Table:
    """Return events by their uris alone."""
    import pyarrow as pa

    uris = [each.partition("#")[0] for each in events["uri"].to_pylist()]
    place = events.schema.get_field_index("uri")
    return events.set_column(place, events.schema.field(place), pa.array(uris, pa.string()))
