"""What a peer has kept: the path of each image and the number of its label, as files of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

Row = tuple[str, int]
"""The name of an image, and the number of its label."""


class Rows:
    """New rows at each look, read once."""

    def __init__(self, folder: Path, kind: str) -> None:
        """Of a folder; `kind` is csv, parquet, or sink: Parquet that Spark's sink has committed."""
        self.folder, self.kind = folder, kind
        self.places: dict[Path, int] = {}
        self.batch = 0

    def new(self) -> list[Row]:
        """Those that were added since the last look."""
        if self.kind == "csv":
            return list(self._lines())
        files = self._committed() if self.kind == "sink" else self.folder.rglob("*.parquet")
        return [row for file in list(files) for row in self._of(file)]

    def _lines(self) -> Iterator[Row]:
        for file in self.folder.iterdir():
            with file.open("rb") as opened:
                opened.seek(self.places.get(file, 0))
                whole, _, _ = opened.read().rpartition(b"\n")
            if whole:
                self.places[file] = self.places.get(file, 0) + len(whole) + 1
                for line in whole.decode().splitlines():
                    path, _, label = line.rpartition(",")
                    yield Path(path).name, int(label)

    def _committed(self) -> Iterator[Path]:
        log = self.folder / "_spark_metadata"
        while True:
            # Every tenth batch's file holds all that came before, too, under another name.
            names = (str(self.batch), f"{self.batch}.compact")
            entry = next((log / name for name in names if (log / name).exists()), None)
            if entry is None:
                return
            self.batch += 1
            for line in entry.read_text().splitlines()[1:]:
                yield Path(json.loads(line)["path"].removeprefix("file://"))

    def _of(self, file: Path) -> Iterator[Row]:
        import pyarrow.parquet as pq

        if file not in self.places:
            self.places[file] = 0
            found = pq.read_table(file, columns=["path", "label"], partitioning=None)
            for path, label in zip(*(column.to_pylist() for column in found.columns), strict=True):
                yield Path(path).name, label
