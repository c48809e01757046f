"""The labels table: what people say images show, kept as a history that is only added to."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.errors import InputError
from sightstream.io.lock import locked
from sightstream.tables import delta
from sightstream.tables.schema import LABEL

if TYPE_CHECKING:
    import pyarrow as pa

SMALL_FILES = 64
"""Files after which they are merged; each commit adds one."""

MAX_BYTES = 200
"""Of a label in UTF-8; file systems take 255, and a suffix may have to fit in."""


@dataclass(frozen=True)
class Label:
    """A row of the table.

    Attributes:
        event_id: the image's row in the predictions.
        label: what it shows; None: the label was withdrawn.
        labelled_at: when it was said, UTC.
        labelled_by: who said it.
    """

    event_id: str
    label: str | None
    labelled_at: datetime
    labelled_by: str


class Labels:
    """The table, created by the first label. Any number of processes may write to it at once."""

    def __init__(self, path: Path) -> None:
        """Remembers the table's folder; each call reads the table anew."""
        self.path = path

    def put(self, pairs: Mapping[str, str | None], by: str) -> list[Label]:
        """Labels images, all in one commit, and returns the rows that were added.

        Args:
            pairs: a label for each event id; None withdraws the one it has.
            by: who says so.

        Raises:
            InputError: a label cannot be the name of a class; nothing is written.
        """
        for label in pairs.values():
            if label is not None:
                require_class_name(label)
        if not pairs:
            return []
        with self._alone():
            now = self._now()
            rows = [Label(event_id, label, now, by) for event_id, label in pairs.items()]
            self._append(rows)
        return rows

    def undo(self, event_id: str, by: str) -> Label:
        """Gives an image back the label that it had before its last change.

        That is a row too: the history stays, and a second undo takes back the first.

        Args:
            event_id: the image's row in the predictions.
            by: who says so.

        Returns:
            The row that was added; its label is None where the image had none before.

        Raises:
            InputError: the image was never labelled.
        """
        import pyarrow.compute as pc

        history = self._history()
        said = history.filter(pc.equal(history["event_id"], event_id))["label"].to_pylist()
        if not said:
            raise InputError(f"event {event_id!r} has no label that could be undone")
        before = next((label for label in reversed(said) if label != said[-1]), None)
        (row,) = self.put({event_id: before}, by)
        return row

    def current(self) -> pa.Table:
        """The labels that hold, columns as in `schema`; withdrawn ones are left out."""
        import numpy as np
        import pyarrow.compute as pc

        history = self._history()
        numbered = history.append_column("row", [np.arange(history.num_rows)])
        newest = numbered.group_by("event_id").aggregate([("row", "max")])["row_max"]
        held = history.take(newest)
        return held.filter(pc.is_valid(held["label"]))

    def _history(self) -> pa.Table:
        """All rows, the oldest first."""
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(self.path)):
            return LABEL.empty_table()
        rows = delta.dataset(DeltaTable(self.path), str(self.path.absolute())).to_table()
        # Two that were written in the same microsecond must not change places from look to look.
        return rows.sort_by([("labelled_at", "ascending"), ("label", "ascending")])

    def _now(self) -> datetime:
        """After all that was said before, also when the clock was set back."""
        import pyarrow.compute as pc

        newest = pc.max(self._history()["labelled_at"]).as_py()
        now = datetime.now(UTC)
        return now if newest is None else max(now, newest + timedelta(microseconds=1))

    def _append(self, rows: list[Label]) -> None:
        import pyarrow as pa
        from deltalake import DeltaTable, write_deltalake

        table = DeltaTable.create(
            self.path,
            LABEL,
            mode="ignore",
            name="labels",
            description="What people say that images show; the newest row of an event id counts.",
        )
        added = pa.Table.from_pylist(list(map(vars, rows)), LABEL)
        write_deltalake(table, delta.plain(added), mode="append")
        if len(table.file_uris()) > SMALL_FILES:
            table.optimize.compact()
            table.vacuum(dry_run=False)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time.

        delta-rs refuses one of two that create a table, and lets two that merge the same files both
        put a copy in their place: https://github.com/delta-io/delta-rs/pull/3982
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "_writing"):
            yield


def user() -> str:
    """Who labels: the name of the user that this process runs as."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def require_class_name(label: str) -> None:
    """Refuses what cannot be the name of a class, and so of a folder.

    Raises:
        InputError: it is empty, longer than `MAX_BYTES`, begins with a dot, has "/" or control
            characters in it, or spaces around it.
    """
    if fault := _label_fault(label):
        raise InputError(fault)


def from_csv(file: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Reads lines of `event_id,label`, which may stand below a line that says just that.

    Returns:
        The label of each event id, and the number of its line.

    Raises:
        InputError: the file cannot be read, is empty, or a line of it, which is named, is wrong.
    """
    pairs: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        for number, row in _rows(file):
            if fault := _row_fault(row, lines):
                raise InputError(f"{file} line {number}: {fault}")
            event_id, label = row
            pairs[event_id], lines[event_id] = label, number
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    if not pairs:
        raise InputError(f"{file} has no lines of event_id,label")
    return pairs, lines


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, strict=True)
        for row in reader:
            if row and row != ["event_id", "label"]:
                yield reader.line_num, row


def _row_fault(row: list[str], lines: Mapping[str, int]) -> str | None:
    if len(row) != 2 or not row[0]:
        return f"it is not event_id,label but {','.join(row)[:100]!r}"
    if row[0] in lines:
        return f"event {row[0]!r} stands in line {lines[row[0]]} already"
    return _label_fault(row[1])


def _label_fault(label: str) -> str | None:
    # Of what is not printable, joiners belong to the spelling of several languages.
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
