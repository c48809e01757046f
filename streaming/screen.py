"""The rows as a person sees them arrive: a live table, plain lines, or JSON."""

from __future__ import annotations

import json
from collections import Counter, deque
from threading import Lock
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from sightstream import terminal
from sightstream.predictions import latest

if TYPE_CHECKING:
    import pyarrow as pa

    from sightstream.config import Settings
    from streaming.job import Stream

ROWS = 12
"""Rows of the live table."""


_SHOWN = [
    "processed_at", "event_time", "original_name", "status", "label", "error_code", "score",
]  # fmt: skip


class Screen:
    """Shows rows on stdout, in the form that suits what stdout is."""

    def __init__(self, *, as_json: bool) -> None:
        """Chooses the form.

        Args:
            as_json: a line of JSON for each row.
        """
        self._as_json = as_json
        self._rows: deque[dict[str, Any]] = deque(maxlen=ROWS)
        self._counts: Counter[str] = Counter()
        self._lock = Lock()
        self._live: Live | None = None
        self._stream: Stream | None = None

    def open(self, settings: Settings, stream: Stream) -> None:
        """Says where everything is, and begins the live table with the latest rows."""
        places = {
            "inbox": settings.inbox, "table": settings.predictions, "logs": settings.logs,
            "metrics": f"http://{settings.metrics_host}:{stream.metrics_port}/metrics",
            "model": stream.model,
        }  # fmt: skip
        for name, place in places.items():
            terminal.err.print(f"{name:>8}  {place}", highlight=False, markup=False)
        terminal.err.print("drop images into the inbox; Ctrl-C ends", style="dim")
        if terminal.out.is_terminal and not self._as_json:
            self._stream = stream
            self._rows.extend(latest(settings.predictions, ROWS))
            self._live = Live(self._table(), console=terminal.out, auto_refresh=False)
            self._live.start()

    def add(self, rows: pa.Table) -> None:
        """Shows the rows of a micro-batch; called from the stream's thread."""
        with self._lock:
            self._counts.update(rows["status"].to_pylist())
            if self._live:
                self._rows.extend(rows.slice(max(0, rows.num_rows - ROWS)).to_pylist())
                return
        shown = rows if self._as_json else rows.select(_SHOWN)
        lines = (
            json.dumps(row, default=str) if self._as_json else "  ".join(_cells(row))
            for row in shown.to_pylist()
        )
        terminal.out.file.write("".join(f"{line}\n" for line in lines))
        terminal.out.file.flush()

    def refresh(self) -> None:
        """Draws the live table again."""
        if self._live:
            self._live.update(self._table(), refresh=True)

    def close(self) -> None:
        """Leaves the last state of the live table on the screen."""
        if self._live:
            self.refresh()
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        with self._lock:
            rows, counts = list(self._rows), dict(self._counts)
        behind = self._stream.behind if self._stream else 0
        table = Table(
            "time", "name", "label", "score", "latency",
            caption=f"{counts.get('ok', 0)} classified, {counts.get('rejected', 0)} rejected, "
            f"{behind} behind",
        )  # fmt: skip
        for row in rows:
            style = "red" if row["status"] == "rejected" else None
            table.add_row(*(Text(cell) for cell in _cells(row)), style=style)
        return table


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    latency = (row["processed_at"] - row["event_time"]).total_seconds()
    ok = row["status"] == "ok"
    return (
        f"{row['processed_at'].astimezone():%H:%M:%S}",
        terminal.printable(row["original_name"]),
        row["label"] if ok else row["error_code"],
        f"{row['score']:.4f}" if ok else "",
        f"{latency:.2f} s",
    )
