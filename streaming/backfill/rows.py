"""The images that the rows of a Delta or Parquet table name or hold, as events."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

import pyarrow as pa
import pyarrow.compute as pc

from sightstream import terminal
from sightstream.errors import InputError, first_line
from sightstream.images.store import here, local_path
from sightstream.tables import delta
from streaming.backfill.files import FOUND, SOURCE, File, found, is_remote, uri_of
from streaming.bucket.store import place as bucket_place
from streaming.bucket.store import reached

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset, Fragment

_CONTENT = ("content", "image", "bytes")
"""Names that a column of image files has, where a table has several binary ones."""

_URI = ("uri", "path", "url", "image_uri", "image_path", "file")
"""Names of a column of uris or paths, by rank."""

_OURS = {"event_id", "source", "uri", "original_name", "event_time", "model_version", "error_code"}
"""Columns of a predictions table."""

_PARQUET = ".parquet"

_PLACE, _ROW = "sightstream: place", "sightstream: row"
"""Columns beside those of a table, which has others."""

_EARLIEST, _AHEAD = 0.0, 2 * 86_400
"""Times in a table that count: after 1970, and as far ahead of now as clocks may be, in seconds."""

_HASHED = 64
"""Images whose content is read at once, to make their ids."""


@dataclass(frozen=True)
class Table:
    """A table of images: `content` is its column of their bytes; None where it has their uris."""

    place: str
    rows: Dataset
    content: str | None
    uri: str | None

    @property
    def ours(self) -> bool:
        """Whether it is a predictions table."""
        return set(self.rows.schema.names) >= _OURS and self.content is None


def opened(place: str) -> Table | None:
    """Open a Delta table, or a Parquet file; None where there is neither.

    Raises:
        InputError: No column, or more than one, can be that of the images.
    """
    from sightstream.tables.predictions import opened as opened_delta

    if Path(place).is_file():
        if place.endswith(_PARQUET):
            return _parquet(str(Path(place).parent), [Path(place).name], place)
        raise InputError(
            f"{terminal.printable(place)} is a file, and no folder, table or uri of images; for "
            "one image there is: sightstream predict"
        )
    if not _is_delta(place):
        return None
    table = opened_delta(place)
    found = Table(
        place, delta.dataset(table, place), *_columns(pa.schema(table.schema().to_arrow()), place)
    )
    if found.content and table.protocol().min_reader_version > 1:
        raise InputError(
            f"{place} holds images in files that have deletion vectors or mapped columns, which "
            "cannot be read row by row; copy the rows to a table without them"
        )
    return found


def _is_delta(place: str) -> bool:
    if is_remote(place):
        # By the client that lists images, which needs no more settings than these do.
        bucket, folder = bucket_place(place)
        with reached(place):
            return any(bucket.pages(f"{folder}_delta_log/"))
    from deltalake import DeltaTable

    with delta.reached(place):
        return DeltaTable.is_deltatable(place)


def parquet(place: str, files: Sequence[File]) -> Table | None:
    """Open the files of a folder that has Parquet files alone; None for any other folder.

    InputError as in `opened`.
    """
    data = [each.name for each in files if not each.name.rpartition("/")[2].startswith(("_", "."))]
    is_table = bool(data) and all(name.endswith(_PARQUET) for name in data)
    return _parquet(place, data, place) if is_table else None


def _parquet(place: str, names: list[str], named: str) -> Table:
    import pyarrow.dataset as ds

    try:
        rows = ds.dataset(
            names, format="parquet", partitioning="hive", filesystem=delta.store(place)
        )
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{named} cannot be read as Parquet: {first_line(error)}") from None
    return Table(place, rows, *_columns(rows.schema, named))


def _columns(schema: pa.Schema, place: str) -> tuple[str | None, str | None]:
    """Return the column of the images' bytes, and else that of their uris."""
    binary = [field.name for field in schema if _holds(field, "binary")]
    text = [field.name for field in schema if _holds(field, "string")]
    content = [name for name in _CONTENT if name in binary] or binary
    uri = next((name for name in _URI if name in text), None)
    if content and (content[0] in _CONTENT or len(content) == 1):
        return content[0], uri
    if uri:
        return None, uri
    raise InputError(
        f"no column of {terminal.printable(place)} ({', '.join(schema.names)}) can be that of the "
        "images: their bytes are binary, in a column content, or their uris text, in a column uri"
    )


def events(
    table: Table, where: str, now: float, home: str, labels: pa.Table | None
) -> tuple[pa.Table, dict[str, int]]:
    """Return the events of a table's rows that meet a condition in DuckDB's SQL, if any.

    Returns:
        A table of `FOUND`, and what was left out: rows whose image is `gone`.

    Raises:
        InputError: The condition is wrong, or the table cannot be read.
    """
    seen, parts, gone = Counter[str](), [FOUND.empty_table()], 0
    for fragment, rows in _rows(table, where):
        picked = rows.take(pa.array(chosen(rows, where, labels), pa.int64()))
        if table.ours and "frame" in picked.column_names:
            # The row of the first one stands for the file.
            picked = picked.filter(pc.less_equal(pc.fill_null(picked["frame"], 1), 1))
        try:
            made = _events(table, fragment, picked, now, seen)
        except pa.ArrowException as error:
            raise InputError(
                f"columns of {table.place} are no text or times: {first_line(error)}"
            ) from None
        parts.append(_still_there(made, home) if table.ours else made)
        gone += len(made) - len(parts[-1])
    return pa.concat_tables(parts), {"gone": gone}


def chosen(rows: pa.Table, where: str, labels: pa.Table | None = None) -> list[int]:
    """Return the places of the rows that meet a condition, which may ask the table `labels` too.

    InputError where the condition is wrong.
    """
    numbers = pa.array(range(len(rows)), pa.int64())
    if not where:
        return list(range(len(rows)))
    import duckdb

    with duckdb.connect() as connection:
        connection.register("source", rows.append_column(_PLACE, numbers))
        if labels is not None:
            connection.register("labels", labels)
        # On a line of its own, so that no comment hides the bracket.
        asked = f'SELECT "{_PLACE}" FROM source WHERE ({where}\n)'  # noqa: S608
        try:
            if len(duckdb.extract_statements(asked)) > 1:
                raise InputError(f"--where {where!r} is more than a condition")
            return sorted(connection.sql(asked).to_arrow_table()[_PLACE].to_pylist())
        except duckdb.Error as error:
            raise InputError(f"--where {where!r} failed: {first_line(error)}") from None


def _rows(table: Table, where: str) -> Iterator[tuple[Fragment, pa.Table]]:
    """Yield the rows of each file, of those columns that are needed; `_ROW` is their place."""
    schema, asked = table.rows.schema, where.lower()
    needed = {*_OURS, "frame", "name", table.uri} - {table.content}
    names = [n for n in schema.names if n in needed or n.lower() in asked]
    plain = pa.schema(_plain(schema.field(name)) for name in names)
    for fragment in table.rows.get_fragments():
        try:
            rows = fragment.to_table(schema=schema, columns=names).cast(plain)
            count = len(rows) if names else fragment.count_rows()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{table.place} cannot be read: {first_line(error)}") from None
        columns = [*rows.columns, pa.array(range(count), pa.int64())]
        yield fragment, pa.table(columns, [*names, _ROW])


def _plain(field: pa.Field) -> pa.Field:
    """Return a field of text as one that all can compare."""
    return pa.field(field.name, pa.string()) if _holds(field, "string") else field


def _holds(field: pa.Field, kind: str) -> bool:
    """Tell whether a field is of a kind, in any of Arrow's layouts."""
    return kind in str(field.type) and not pa.types.is_nested(field.type)


def _events(
    table: Table, fragment: Fragment, rows: pa.Table, now: float, seen: Counter[str]
) -> pa.Table:
    columns, count = dict[str, Any](), len(rows)
    held = {name: rows[name] for name in rows.column_names}
    if table.content:
        places = rows[_ROW].cast(pa.string())
        file = f"{uri_of(table.place)}/{quote(fragment.path)}#"
        columns["uri"] = pc.binary_join_element_wise(file, places, "")
    else:
        columns["uri"] = held[str(table.uri)]
        missing = pc.is_null(columns["uri"])
        columns["error_code"] = pc.if_else(missing, "empty", None)
        columns["error_detail"] = pc.if_else(missing, "There is no image: the uri is null.", None)
    names = [held[name] for name in ("original_name", "name", table.uri) if name in held]
    if names:
        columns["original_name"] = pc.coalesce(*(each.cast(pa.string()) for each in names))
    if "event_time" in held and pa.types.is_timestamp(held["event_time"].type):
        told = held["event_time"]
        micros = told.cast(pa.timestamp("us", told.type.tz), safe=False)
        seconds = pc.divide(micros.cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
        likely = pc.and_(
            pc.greater_equal(seconds, _EARLIEST), pc.less(seconds, now + _AHEAD)
        )  # fmt: skip
        columns["event_time"] = pc.if_else(pc.fill_null(likely, False), seconds, now)
    columns["event_id"] = _ids(table, fragment, rows, columns["uri"], seen)
    if table.ours:
        columns["confined"] = _confined(rows)
        columns["version"] = pc.if_else(columns["confined"], None, "")
    return found(columns, count, now)


def _confined(rows: pa.Table) -> pa.ChunkedArray:
    """Tell which uris of a predictions table may be a stranger's, also where they came again."""
    own = pc.is_in(rows["source"].cast(pa.string()), pa.array([SOURCE, "bucket"]))
    refused = pc.equal(rows["error_code"].cast(pa.string()), "uri_refused")
    return pc.or_(pc.invert(own), pc.fill_null(refused, False))


def _ids(
    table: Table, fragment: Fragment, rows: pa.Table, uris: Any, seen: Counter[str]
) -> pa.Array | pa.ChunkedArray | list[str]:
    """Return the rows' own ids; else such as follow from the uri, or from the content."""
    if "event_id" in rows.column_names:
        ids = rows["event_id"].cast(pa.string())
        if ids.null_count:
            raise InputError(
                f"{ids.null_count} rows of {table.place} have no event_id, where others have one; "
                "give each an own one, or leave them out: --where 'event_id is not null'"
            )
        return ids
    if not table.content:
        # Rows without a uri are as many events as they are.
        return [
            str(uuid5(NAMESPACE_URL, _numbered("null", seen) if uri is None else uri))
            for uri in uris.to_pylist()
        ]
    chosen = set(rows[_ROW].to_pylist())
    return [
        str(uuid5(NAMESPACE_URL, _numbered(f"ni:///sha-256;{digest}", seen)))
        for place, digest in enumerate(_digests(fragment, table)) if place in chosen
    ]  # fmt: skip


def _numbered(name: str, seen: Counter[str]) -> str:
    """Tell images of equal content apart by their number, wherever in the table they are."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def _digests(fragment: Fragment, table: Table) -> Iterator[str]:
    batches = fragment.to_batches(
        schema=table.rows.schema, columns=[table.content], batch_size=_HASHED, use_threads=False
    )
    for batch in batches:
        for each in batch.column(0):
            yield hashlib.sha256(each.as_buffer() or b"").hexdigest()


def _still_there(events: pa.Table, home: str) -> pa.Table:
    """Return the events whose image is there, where it is in the home that is in use."""
    folder = uri_of(home)
    uris = [here(uri, folder) if uri else "" for uri in events["uri"].to_pylist()]
    column = FOUND.get_field_index("uri")
    events = events.set_column(column, FOUND.field(column), pa.array(uris, pa.string()))
    return events.filter(pa.array(map(_is_there, uris), pa.bool_()))


def _is_there(uri: str) -> bool:
    """Tell whether an image may be there; whether one of a store is, its row will tell."""
    if not uri or uri.startswith("kafka:"):
        return False  # the bytes of a message are not kept
    if is_remote(uri):
        return True
    try:
        return os.path.lexists(local_path(uri))
    except ValueError:
        return True
