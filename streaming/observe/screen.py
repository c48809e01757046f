"""New rows on stdout: a live table, plain lines, or JSON."""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sightstream import terminal
from sightstream.tables.predictions import latest

ROWS = 12  # rows of the live table


class Screen:
    """The rows of a run on stdout: as a live table on a terminal, else as lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._rows: deque[tuple[str, ...]] = deque(maxlen=ROWS)
        self._counts: Counter[str] = Counter()
        self._lock = Lock()
        self._live: Live | None = None
        self._behind: Callable[[], int] = int
        self.gone = False

    def open(self, places: Mapping[str, object], table: str, behind: Callable[[], int]) -> None:
        """Print the places of everything by name, and begin the live table with the latest rows.

        `behind` returns the number of images that have no row yet.
        """
        for name, place in places.items():
            terminal.err.print(f"{name:>8}  {place}", highlight=False, markup=False)
        hint = "drop images into the inbox; " if "inbox" in places else ""
        terminal.err.print(f"{hint}Ctrl-C ends", style="dim")
        if terminal.out.is_terminal and not self._as_json:
            self._behind = behind
            self._rows.extend(_cells(latest(table, ROWS)))
            self._live = Live(
                self._table(), console=terminal.out, auto_refresh=False, **terminal.OURS
            )
            self._live.start()

    def add(self, rows: pa.Table) -> None:
        """Show the rows of a micro-batch; called from the thread of a query."""
        with self._lock:
            self._counts.update(rows["status"].to_pylist())
            if self._live:
                self._rows.extend(_cells(rows.slice(max(0, rows.num_rows - ROWS))))
                return
        lines = (
            (json.dumps(row, default=str) for row in rows.to_pylist())
            if self._as_json
            else ("  ".join(cells) for cells in _cells(rows))
        )
        try:
            terminal.out.file.write("".join(f"{line}\n" for line in lines))
            terminal.out.file.flush()
        except BrokenPipeError:  # such as of `run --json | head`
            self.gone = True

    def say(self, text: str) -> None:
        """Print a sentence: on stderr, or above the live table, which would write over it."""
        if self._live:
            terminal.out.print(Text(terminal.printable(text)))
        else:
            terminal.say(text)

    def refresh(self) -> None:
        """Draw the live table again."""
        if self._live:
            self._live.update(self._table(), refresh=True)

    def close(self) -> None:
        """Leave the last state of the live table on the screen."""
        if self._live:
            self.refresh()
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        with self._lock:
            rows, counts = list(self._rows), dict(self._counts)
        table = Table(
            "time", "name", "label", "score", "latency",
            caption=f"{counts.get('ok', 0)} classified, {counts.get('rejected', 0)} rejected, "
            f"{self._behind()} behind",
        )  # fmt: skip
        for row in rows:
            table.add_row(*(Text(cell) for cell in row), style=None if row[3] else "red")
        return table


def _cells(rows: pa.Table) -> Iterator[tuple[str, ...]]:
    """Cells of each row: time, name, label or error code, score, latency."""
    # Microseconds: to make a datetime of each would take longer than all the rest.
    made, came = (pc.cast(rows[name], pa.int64()) for name in ("processed_at", "event_time"))
    columns = (
        made, rows["original_name"], pc.coalesce(rows["label"], rows["error_code"]), rows["score"],
        pc.subtract(made, came),
    )  # fmt: skip
    shown_at: dict[int, str] = {}
    for at, name, answer, score, late in zip(*(c.to_pylist() for c in columns), strict=True):
        if at not in shown_at:
            shown_at[at] = f"{datetime.fromtimestamp(at / 1e6):%H:%M:%S}"
        yield (
            shown_at[at],
            terminal.printable(name),
            terminal.printable(answer),
            "" if score is None else f"{score:.4f}",
            f"{late / 1e6:.2f} s",
        )
