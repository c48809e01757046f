"""The plan of a backfill: its events, written down once; a commit holds how far it has come.

A plan's folder has `events.arrow`, and `plan.json`, which comes last: without it there is no plan.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.images.limits import Limits, Rejected
from sightstream.images.store import Image, Store
from sightstream.io import disk
from sightstream.runtime.spark import PIECE
from sightstream.tables.schema import EVENT
from streaming.backfill.files import FOUND, is_remote, uri_of
from streaming.bucket.reading import read_object
from streaming.bucket.store import SCHEMES, located
from streaming.folder.assignment import Assignment

if TYPE_CHECKING:
    import pandas as pd

    from sightstream.scoring.framed import Piece

EVENTS, FACTS = "events.arrow", "plan.json"

HELD = 32 * 2**20
"""Bytes of images that a worker holds at once, about; of what is local it has the paths."""

CONNECTIONS = 8
"""Images of an object store that a worker requests at once."""


@dataclass(frozen=True)
class Wish:
    """What a command asked for; the same again goes on with the same plan.

    `source` and `into` are absolute paths or uris, and `model` is as it was written.
    """

    source: str
    where: str
    model: str
    into: str

    @property
    def key(self) -> str:
        """The name of the plan's folder."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """Events in their order, of which the first ones are in the table; and who answers.

    `app_id` is that of the transactions in the table, whose version is the number of events that
    are done. `content` is the column that holds the images where `source` is a table of them.
    """

    app_id: str
    model: str  # NAME@NUMBER, or a folder
    images: int
    source: str
    content: str | None
    left: dict[str, int] = field(default_factory=dict)
    """Numbers of images that are not part of it, by the reason."""


def read(folder: Path) -> Plan | None:
    """Return the plan in a folder, or None.

    Raises:
        InputError: It cannot be read.
    """
    try:
        found = Plan(**json.loads((folder / FACTS).read_text()))
        _require_sound(found)
    except FileNotFoundError:
        return None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{folder / FACTS} is no plan: {error}; remove {folder}") from None
    try:
        with pa.memory_map(str(folder / EVENTS)) as file:
            events = pa.ipc.open_file(file).read_all()
            whole = events.schema == FOUND and len(events) == found.images
    except (OSError, pa.ArrowException):
        whole = False
    if not whole:
        raise InputError(f"{folder / EVENTS} is damaged, or not of its plan; remove {folder}")
    return found


def _require_sound(found: Plan) -> None:
    # Not by pydantic: a name of a file, and so `source`, may be no UTF-8.
    texts = found.app_id, found.model, found.source, found.content or ""
    left = found.left if isinstance(found.left, dict) else {"": None}
    if {*map(type, texts)} != {str} or {type(found.images), *map(type, left.values())} != {int}:
        raise TypeError("its fields are of other types")


def write(folder: Path, events: pa.Table, **facts: Any) -> Plan:
    """Write down a plan of events of `FOUND`, and sync it; a crash leaves all of it or none."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / EVENTS), "wb") as file, pa.ipc.new_file(file, FOUND) as writer:
        writer.write_table(events.combine_chunks(), max_chunksize=PIECE)
    disk.sync(folder / EVENTS)
    plan = Plan(f"backfill-{uuid4()}", images=len(events), **facts)
    disk.replace(folder / FACTS, json.dumps(asdict(plan), indent=1).encode())
    return plan


def forget(folder: Path) -> None:
    """Remove a plan; a crash leaves all of it or none."""
    (folder / FACTS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def assignment(first: int, last: int, tasks: int) -> Assignment:
    """Divide the events from one up to another among tasks."""
    return Assignment({"event": str(first)}, {"event": str(last)}, last - first, tasks)


@dataclass(frozen=True)
class PlannedImages:
    """Reader of the images of a plan; goes to the workers, which see `folder` at the same path.

    Of confined events, images are read below one of `prefixes` only.
    """

    folder: Path
    source: str
    content: str | None
    prefixes: tuple[str, ...]
    limits: Limits

    def __call__(self, rows: pd.DataFrame, assignment: str) -> Iterator[Piece]:
        """Yield the events of each task in pieces, with their images.

        Raises:
            AwayError: a bucket does not answer.
            OSError: this machine does not see the plan, or all of it.
        """
        assigned = Assignment(**json.loads(assignment))
        first, last = int(assigned.start["event"]), int(assigned.end["event"])
        with pa.memory_map(str(self.folder / EVENTS)) as file:
            found = pa.ipc.open_file(file).read_all().slice(first, last - first)
            if len(found) != assigned.images:
                host = socket.gethostname()
                raise OSError(f"{host} sees {len(found)} of {assigned.images} events")
            for number in rows["id"]:
                for begin, end in assigned.parts(number):
                    yield from self._pieces(found.slice(begin, end - begin))

    def _pieces(self, events: pa.Table) -> Iterator[Piece]:
        held, size, start = list[Image | None](), 0, 0
        for image in self._images(events):
            held.append(image)
            size += len(image) if isinstance(image, bytes) else 0
            if size >= HELD or len(held) == PIECE:
                yield events.slice(start, len(held)).select(EVENT.names), held
                held, size, start = [], 0, start + len(held)
        if held:
            yield events.slice(start).select(EVENT.names), held

    def _images(self, events: pa.Table) -> Iterator[Image | None]:
        if self.content:
            yield from self._contents(events["uri"].to_pylist(), self.content)
            return
        stores = {True: Store(self.prefixes, self.limits), False: Store(None, self.limits)}

        def look(code: str | None, confined: bool, version: str | None, uri: str) -> Image | None:
            if code is not None:
                return None
            if version is None or uri.partition("://")[0] not in SCHEMES:
                return stores[confined](uri)
            return read_object(*located(uri), version, self.limits)

        names = ("error_code", "confined", "version", "uri")
        columns = [events[name].to_pylist() for name in names]
        if not any(is_remote(uri or "") for uri in columns[3]):
            yield from map(look, *columns)
            return
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for start in range(0, len(events), 2 * CONNECTIONS):
                yield from pool.map(look, *(c[start : start + 2 * CONNECTIONS] for c in columns))

    def _contents(self, uris: list[str], column: str) -> Iterator[Image]:
        """Yield what the rows at these uris hold; those of a file are in order of their number."""
        for name, places in groupby((uri.rpartition("#") for uri in uris), lambda place: place[0]):
            yield from self._rows(name, [int(number) for *_, number in places], column)

    def _rows(self, uri: str, numbers: list[int], column: str) -> Iterator[Image]:
        import pyarrow.parquet as pq

        from sightstream.tables import delta

        name = unquote(uri.removeprefix(f"{uri_of(self.source)}/"))
        with delta.store(self.source).open_input_file(name) as opened:
            file = pq.ParquetFile(opened, pre_buffer=False)
            wanted, ends = iter(numbers), _ends(file)
            groups = [g for g, (a, b) in enumerate(ends) if any(a <= n < b for n in numbers)]
            want = next(wanted, None)
            for group in groups:
                at = ends[group][0]
                for batch in file.iter_batches(64, row_groups=[group], columns=[column]):
                    while want is not None and at <= want < at + len(batch):
                        yield self._image(batch.column(0)[want - at])
                        want = next(wanted, None)
                    at += len(batch)
                    if want is None:
                        break

    def _image(self, held: pa.Scalar) -> Image:
        if not held.is_valid:
            return Rejected("empty", "There is no image: the value is null.")
        content = held.as_buffer()
        return self.limits.rejection(content.size) or content.to_pybytes()


def _ends(file: Any) -> list[tuple[int, int]]:
    """Return the first row of each row group, and the one behind its last."""
    found, at = list[tuple[int, int]](), 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        found.append((at, at + rows))
        at += rows
    return found
