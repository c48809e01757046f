"""Bytewax: a folder as a source, ONNX Runtime by up to 64 images, a file of lines a process.

Started as a script, it starts a cluster of processes that run this flow.
"""

import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from os import walk
from pathlib import Path
from zlib import crc32

import bytewax.operators as op
import numpy as np
from bytewax.connectors.files import DirSink
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from protocol import CORES, INBOX, ROWS, decode, network

BATCH = 64
PORT = 23401


class Part(StatelessSourcePartition[str]):
    """A worker's share of the paths in the inbox, each of them once."""

    def __init__(self, index: int, count: int) -> None:
        self.index, self.count = index, count
        self.seen: set[str] = set()
        self.found: list[str] = []
        self.awake: datetime | None = None

    def next_batch(self) -> list[str]:
        """Up to `BATCH` paths; the inbox is listed when there are none."""
        if not self.found:
            paths = (f"{folder}/{name}" for folder, _, names in walk(INBOX) for name in names)
            new = {path for path in paths if crc32(path.encode()) % self.count == self.index}
            self.found = sorted(new - self.seen)
            self.seen = new
        batch, self.found = self.found[:BATCH], self.found[BATCH:]
        self.awake = None if batch else datetime.now(UTC) + timedelta(milliseconds=10)
        return batch

    def next_awake(self) -> datetime | None:
        """When the inbox is to be listed again."""
        return self.awake


class Folder(DynamicSource[str]):
    """The inbox."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Part:
        """A worker's part."""
        return Part(worker_index, worker_count)


run = None


def predict(paths: list[str]) -> Iterable[tuple[str, str]]:
    """Lines of path and label, keyed by the path."""
    global run
    run = run or network()
    labels = run(np.stack([decode(path) for path in paths])).argmax(1)
    return [(path, f"{path},{label}") for path, label in zip(paths, labels, strict=True)]


flow = Dataflow("classify")
lines = op.flat_map_batch("predict", op.input("files", flow, Folder()), predict)
op.output("rows", lines, DirSink(ROWS, CORES))

if __name__ == "__main__":
    addresses = ";".join(f"127.0.0.1:{PORT + n}" for n in range(CORES))
    command = [sys.executable, "-m", "bytewax.run", f"{Path(__file__).stem}:flow", "-a", addresses]
    workers = [subprocess.Popen([*command, "-i", str(n)]) for n in range(CORES)]
    sys.exit(max(worker.wait() for worker in workers))
