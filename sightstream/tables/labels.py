"""The labels table: a history of the labels that people give to images; rows are only added."""

import csv
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.io import disk, separated
from sightstream.tables import commits, delta
from sightstream.tables.schema import LABEL

SMALL_FILES = 64
"""Number of files above which they are merged; each commit adds one."""

MAX_BYTES = 200
"""Longest label in UTF-8; names of files have at most 255 bytes, with their suffix."""


@dataclass(frozen=True)
class Label:
    """A row of the table: a label of the image with this event id, or None for its withdrawal."""

    event_id: str
    label: str | None
    labelled_at: datetime
    labelled_by: str


class Labels:
    """The table in a folder, created by the first label; several processes may write to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, pairs: Mapping[str, str | None], by: str) -> list[Label]:
        """Add a label for each event id, or its withdrawal (None), in one commit by a user.

        Raises:
            InputError: A label cannot be the name of a class; nothing is written.
        """
        for label in pairs.values():
            if label is not None:
                require_class_name(label)
        if not pairs:
            return []
        disk.make(self.path, "the labels table's folder")
        # delta-rs fails where two create a table, and two that merge the same files keep both
        # copies: https://github.com/delta-io/delta-rs/pull/3982
        with disk.locked(self.path / "_writing"):
            now = self._now()
            rows = [Label(event_id, label, now, by) for event_id, label in pairs.items()]
            self._append(rows)
        return rows

    def undo(self, event_id: str, by: str) -> Label:
        """Add the label that an image had before its last change, or None where it had none.

        The history is kept, so that a second undo reverts the first. InputError where the image
        was never labelled.
        """
        import pyarrow.compute as pc

        history = self._history()
        wanted = pa.scalar(event_id, pa.string())
        labels = history.filter(pc.equal(history["event_id"], wanted))["label"].to_pylist()
        if not labels:
            raise InputError(f"event {event_id!r} has no label that could be undone")
        before = next((label for label in reversed(labels) if label != labels[-1]), None)
        (row,) = self.put({event_id: before}, by)
        return row

    def current(self) -> pa.Table:
        """Return the newest row of each image, columns as in `LABEL`, without withdrawn labels."""
        import numpy as np
        import pyarrow.compute as pc

        history = self._history()
        numbered = history.append_column("row", [np.arange(history.num_rows)])
        newest = numbered.group_by("event_id").aggregate([("row", "max")])["row_max"]
        current = history.take(newest)
        return current.filter(pc.is_valid(current["label"]))

    def _history(self) -> pa.Table:
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(self.path)):
            return LABEL.empty_table()
        with delta.readable(str(self.path)):
            held = delta.dataset(DeltaTable(self.path), str(self.path.absolute()))
            rows = held.to_table(columns=LABEL.names)
            # The order of two rows of the same microsecond must not differ from read to read.
            return rows.sort_by([("labelled_at", "ascending"), ("label", "ascending")])

    def _now(self) -> datetime:
        """The time, but later than any row, even if the clock was set back."""
        import pyarrow.compute as pc

        newest = pc.max(self._history()["labelled_at"]).as_py()
        now = datetime.now(UTC)
        return now if newest is None else max(now, newest + timedelta(microseconds=1))

    def _append(self, rows: list[Label]) -> None:
        from deltalake import DeltaTable, write_deltalake

        table = DeltaTable.create(
            self.path, LABEL, mode="ignore", name="labels",
            description="Labels that people gave; the newest row of an event id counts.",
        )  # fmt: skip
        added = pa.Table.from_pylist(list(map(vars, rows)), LABEL)
        write_deltalake(table, delta.fitted(added, table), mode="append")
        commits.settle(str(self.path), table.version())
        if len(table.file_uris()) > SMALL_FILES:
            table.optimize.compact()
            table.vacuum(dry_run=False)


def user() -> str:
    """Return the name of the user that this process runs as."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def require_class_name(label: str) -> None:
    """Raise InputError for a label that cannot be the name of a class, and so of a folder."""
    if fault := _label_fault(label):
        raise InputError(fault)


def from_csv(file: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Read lines of `event_id,label`: the label of each id, and the number of its line.

    Semicolons and tabs separate too.

    InputError where the file cannot be read, is empty, or has a wrong line, which is named.
    """
    pairs: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        with separated.opened(file, _is_pair) as (opened, before, delimiter):
            reader = csv.reader(opened, strict=True, delimiter=delimiter)
            for row in filter(any, reader):
                if row == ["event_id", "label"]:
                    continue
                if fault := _row_fault(row, lines):
                    raise InputError(f"{file} line {before + reader.line_num}: {fault}")
                pairs[row[0]], lines[row[0]] = row[1], before + reader.line_num
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    if not pairs:
        raise InputError(f"{file} has no lines of event_id,label")
    return pairs, lines


def _is_pair(row: list[str]) -> bool:
    return len(row) == 2


def _row_fault(row: list[str], lines: Mapping[str, int]) -> str | None:
    if len(row) != 2 or not row[0]:
        return f"it is not event_id,label but {','.join(row)[:100]!r}"
    if row[0] in lines:
        return f"event {row[0]!r} stands in line {lines[row[0]]} already"
    return _label_fault(row[1])


def _label_fault(label: str) -> str | None:
    # Joiners are not printable either, but several languages need them.
    control = any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in label)
    size = len(label.encode("utf-8", "surrogatepass"))
    faults = {
        "it is empty": not label.strip(),
        "it has spaces around it": label != label.strip(),
        "it begins with a dot": label.startswith("."),
        "it has a / in it": "/" in label,
        "it has control characters in it": control,
        f"it is longer than {MAX_BYTES} bytes": size > MAX_BYTES,
    }
    fault = next((fault for fault, found in faults.items() if found), None)
    return fault and f"{label[:50]!r} cannot be a label, since {fault}"
