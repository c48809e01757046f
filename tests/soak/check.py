"""Count, distinct and sent: the whole table against what the flow sent, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from tests.chaos.checker import Row, differences
from tests.soak.flow import entries

PIECE = 50_000
"""Images that are compared at once: each is some Python objects."""

COLUMNS = [
    "event_id", "original_name", "source", "status", "label", "error_code", "bytes",
    "model_version", "batch_id", "event_time", "processed_at",
]  # fmt: skip

SETTLED = 180.0
"""Seconds after which a new champion has taken over: trainings take the cores meanwhile."""

_NAME = r"^soak-(?P<number>\d{10})\.png$"


def table(path: str, seen: Mapping[int, float]) -> pa.Table:
    """The columns that are compared, of all rows; `seen_at` is when their commit was seen.

    Args:
        path: of the predictions table.
        seen: by micro-batch. Rows of others are seen when they were made.
    """
    rows = DeltaTable(path).to_pyarrow_dataset().to_table(columns=COLUMNS)
    batches, places = np.unique(rows["batch_id"].to_numpy(), return_inverse=True)
    at = np.array([seen.get(int(batch), np.nan) for batch in batches])[places]
    seen_at = np.where(np.isnan(at), _seconds(rows["processed_at"]), at)
    return rows.drop_columns("processed_at").append_column("seen_at", pa.array(seen_at))


def wrong(rows: pa.Table, sent: Path, told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What `tests.chaos.checker` finds, the gravest of each piece first.

    Args:
        rows: of `table`.
        sent: the ledger of the flow.
        told: that of the run, without images.
    """
    for name in rows["original_name"].filter(pc.invert(_ours(rows))).to_pylist():
        yield f"invented: {name} is a row that nobody sent"
    rows = rows.filter(_ours(rows))
    numbers = pc.struct_field(pc.extract_regex(rows["original_name"], _NAME), "number")
    order = pc.sort_indices(numbers)
    held = numbers.take(order).cast(pa.int64()).to_numpy()
    rows = rows.take(order)
    begin = number = 0
    for images in _pieces(sent):
        number += len(images)
        end = int(np.searchsorted(held, number))
        piece = [_row(each) for each in rows.slice(begin, end - begin).to_pylist()]
        yield from differences(piece, [*images, *_near(told, images, piece)], settled=SETTLED)
        begin = end
    for name in rows["original_name"].slice(begin).to_pylist():
        yield f"invented: {name} is a row that nobody sent"
    yield from differences([], [each for each in told if each["kind"] in {"wrong", "ended"}])


def _ours(rows: pa.Table) -> pa.ChunkedArray:
    return pc.match_substring_regex(rows["original_name"], _NAME)


def _pieces(sent: Path) -> Iterator[list[dict[str, Any]]]:
    piece = list[dict[str, Any]]()
    for burst in entries(sent):
        piece += burst
        if len(piece) >= PIECE:
            yield piece
            piece = []
    yield piece


def _near(
    told: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]], rows: Sequence[Row]
) -> list[Mapping[str, Any]]:
    """Promotions, and the faults that these rows may have waited for: each row looks at all."""
    since = min((each["at"] for each in images), default=0.0)
    until = max((row.seen for row in rows), default=since)
    return [
        each for each in told if each["kind"] == "promoted"
        or (each["kind"] == "fault" and each["at"] >= since and each["begin"] <= until)
    ]  # fmt: skip


def _row(row: dict[str, Any]) -> Row:
    return Row(
        row["event_id"], row["original_name"], row["source"], row["status"], row["label"] or "",
        row["error_code"] or "", row["bytes"], row["model_version"] or 0, row["batch_id"],
        seen=row["seen_at"],
    )  # fmt: skip


def latencies(rows: pa.Table, begin: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Of good images of a run: when each arrived, in seconds since its begin, and its latency.

    From the arrival in the inbox to where the commit of the row was seen.
    """
    good = rows.filter(pc.equal(rows["status"], "ok"))
    came, seen = _seconds(good["event_time"]), good["seen_at"].to_numpy()
    arrived = came - begin
    here = (arrived >= 0) & (arrived < seconds)
    return arrived[here], (seen - came)[here]


def _seconds(times: pa.ChunkedArray) -> np.ndarray:
    return times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() / 1e6
