"""What an image, a commit and a look cost while the table grows: `python -m benchmarks.scale`.

The table grows to 10^3, 10^4 and 10^5 rows, then by one backlog of `--images`. At each size from
10^4 on, the same few backlogs of `PROBE` images tell what an image costs. A trickle of
micro-batches of one image follows, as many as a day has at one in 2.4 s, as fast as they are made.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from subprocess import Popen
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import images, sample, stream
from sightstream import config
from sightstream.config import Settings
from sightstream.io.address import free_port
from sightstream.tables.predictions import ask

PROBE = 10_000
"""Images of the backlogs that tell what an image costs."""

PROBES = 3

DISTINCT = 2000
"""Files that the images are links to."""

EVERY = 1000
"""Commits of the trickle between two samples."""

AHEAD = 4
"""Images of the trickle that are on their way at once."""

LONGEST = 600
"""Seconds without a commit that end a benchmark."""

COST = "core-us an image"

Row = dict[str, Any]


def main() -> None:
    """Runs both parts; prints a table, and writes it as JSON after each sample."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000, help="of the one backlog")
    parser.add_argument("--commits", type=int, default=36_000, help="of the trickle")
    parser.add_argument("--minutes", type=float, default=60, help="of the trickle, at most")
    parser.add_argument("--folder", type=Path, default=Path.cwd() / "data" / "benchmark")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-scale.json"))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(chosen.out)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        from benchmarks.__main__ import MODEL, publish

        settings = config.load(home=Path(folder) / "home", model=MODEL)
        publish(settings)
        sources = images.small(Path(folder) / "images", DISTINCT)
        backlog(settings, sources, chosen.images, rows)
        trickle(settings, sources, chosen.commits, 60 * chosen.minutes, rows)
    rows.show()


class Rows:
    """The samples so far."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.all: list[Row] = []

    def add(self, name: str, figures: Row) -> None:
        """Keeps a sample, and writes all of them."""
        load = [round(each, 1) for each in os.getloadavg()]
        self.all.append({"sample": name, **figures, "load": load})
        self._out.write_text(json.dumps(self.all, indent=1) + "\n")
        Console(stderr=True).print(name, {k: _short(v) for k, v in figures.items()}, load)

    def show(self) -> None:
        """Prints a column for each sample."""
        table = Table("figure", *(row["sample"] for row in self.all))
        for key in dict.fromkeys(key for row in self.all for key in row if key != "sample"):
            table.add_row(key, *(_short(row.get(key, "")) for row in self.all))
        Console(width=40 + 14 * len(self.all)).print(table)


def backlog(settings: Settings, sources: list[Path], count: int, rows: Rows) -> None:
    """The table grows to a tenth of the images, then by one backlog of all of them."""
    port = free_port()
    with stream.running(settings, "--metrics-port", str(port)) as process:
        meter = Meter(settings, process, port)
        meter.start(sources)
        for size in [10**power for power in range(3, 9) if 10**power <= count // 10] + [count]:
            figures = meter.drop(sources, size if size == count else size - meter.rows)
            name = f"{meter.rows:,} rows"
            figures |= sample.readers(settings) | sample.log(settings)
            if size >= PROBE:
                probes = [meter.drop(sources, PROBE)[COST] for _ in range(PROBES)]
                figures |= {f"{COST}, probe": median(probes), "probes": probes}
            rows.add(name, figures)
    check(settings, meter.rows)


def trickle(
    settings: Settings, sources: list[Path], count: int, seconds: float, rows: Rows
) -> None:
    """Micro-batches of one image each, until there are enough or the time is over."""
    port, begin, done = free_port(), time.time(), 0
    os.environ["SIGHTSTREAM_IMAGES_PER_BATCH"] = "1"
    with stream.running(settings, "--metrics-port", str(port)) as process:
        meter = Meter(settings, process, port)
        start = meter.start(sources)
        while done < count and time.time() - begin < seconds:
            figures = meter.trickle(sources, min(EVERY, count - done))
            done += EVERY
            figures |= {"start to a row, s": start}
            rows.add(f"{done:,} commits", figures | sample.readers(settings) | sample.log(settings))


def check(settings: Settings, count: int) -> None:
    """Raises an error unless the table has so many rows, each of another image."""
    sql = "SELECT count(*) AS rows, count(DISTINCT event_id) AS events FROM predictions"
    found = ask(settings.predictions, sql).to_pylist()[0]
    if found != {"rows": count, "events": count}:
        raise RuntimeError(f"{count} images were dropped; the table has {found}")


class Meter:
    """Drops images, and follows the table's commits meanwhile."""

    def __init__(self, settings: Settings, process: Popen[bytes], port: int) -> None:
        """Begins with the table as it is; `port` is that of the stream's metrics."""
        self._settings, self._process, self._port = settings, process, port
        self._commits = stream.Commits(settings)
        self._dropped = 0

    @property
    def rows(self) -> int:
        """Rows of the table since then."""
        return self._commits.rows

    def start(self, sources: list[Path]) -> float:
        """One image; returns the seconds since the stream was started."""
        staged = self._staged(sources, 1)
        for path in staged.iterdir():
            path.rename(self._settings.inbox / path.name)
        self._wait(self.rows + 1)
        staged.rmdir()
        return sample.age(self._process)

    def drop(self, sources: list[Path], count: int) -> Row:
        """A backlog of links to files, until all have rows."""
        staged = self._staged(sources, count)
        with self._measured(count) as figures:
            into = staged.rename(self._settings.inbox / staged.name)
            self._wait(self.rows + count)
        into.rmdir()  # else the intake would go on looking into it
        return figures

    def trickle(self, sources: list[Path], count: int) -> Row:
        """Images one by one, a few of them ahead of their rows."""
        staged, inbox = self._staged(sources, count), self._settings.inbox
        begin = self.rows
        with self._measured(count) as figures:
            for number, path in enumerate(sorted(staged.iterdir())):
                self._wait(begin + number - AHEAD)
                path.rename(inbox / path.name)
            self._wait(begin + count)
        staged.rmdir()
        return figures

    def _staged(self, sources: list[Path], count: int) -> Path:
        folder = self._settings.staging / f"drop-{self._dropped}"
        folder.mkdir(parents=True)
        self._settings.inbox.mkdir(exist_ok=True)
        for number in range(count):
            os.link(sources[number % len(sources)], folder / f"{self._dropped + number:09d}.jpg")
        self._dropped += count
        return folder

    @contextmanager
    def _measured(self, count: int) -> Iterator[Row]:
        figures: Row = {}
        cores, before = sample.cpu(self._process), sample.phases(self._port)
        begin = time.monotonic()
        yield figures
        seconds, used = time.monotonic() - begin, sample.cpu(self._process)
        each = {kind: 1e6 * (used[kind] - cores[kind]) / count for kind in used}
        figures[COST] = sum(each.values())
        figures |= {f"of these {kind}": value for kind, value in each.items()}
        figures["images/s"] = count / seconds
        for name, (number, spent) in sample.phases(self._port).items():
            batches, earlier = before.get(name, (0.0, 0.0))
            if number > batches:
                figures[f"{name}, ms"] = 1000 * (spent - earlier) / (number - batches)
        figures |= sample.memory(self._process)

    def _wait(self, rows: int) -> None:
        while self.rows < rows:
            self._commits.take(time.monotonic() + LONGEST)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
