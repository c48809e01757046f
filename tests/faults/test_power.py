"""A loss of power at any moment: what the intake took has one row, or will have it."""

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from sightstream.config import Acceptance
from sightstream.io import disk
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from streaming.folder.intake import Folders, Intake
from streaming.folder.manifests import KEY, between, read
from streaming.folder.spark_reader import ManifestReader
from tests import blocklog

STEPS, IMAGES, CUTS = 12, 5, 60
NAMES = ("event_id", "original_name", "uri")


# Each writes to a disk for ten seconds, and mounts it sixty times.
SYSTEMS = ["ext4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("xfs", "btrfs"))]


@pytest.mark.parametrize("system", SYSTEMS)
def test_after_a_loss_of_power_each_image_that_was_synced_has_one_event(tmp_path, system):
    if why := blocklog.missing(system):
        pytest.skip(why)
    with blocklog.logged(tmp_path / "disk", system) as logged:
        home, sent = Home(logged.place), dict[str, int]()
        begin = logged.position
        for step in range(STEPS):
            for number in range(IMAGES):
                name = home.send(f"{step}-{number}.jpg")
                sent[name] = logged.position
            home.step(step)
        end = logged.position
    cuts = range(begin + 1, end + 1, max(1, (end - begin) // CUTS))
    wrong = list[str]()
    for position, place in logged.cut(cuts, seed=1):
        images = Home(place).found()
        found = Counter(name for name, _ in images)
        there = [name for name, at in sent.items() if at <= position]
        wrong += [f"at {position}: {name} is lost" for name in there if not found[name]]
        wrong += [f"at {position}: {name} came {n} times" for name, n in found.items() if n > 1]
        wrong += [f"at {position}: {name} is {c}" for name, c in images if c != name.encode()]
    assert wrong == []


class Home:
    """The parts of a stream that write, without Spark: as the program calls them, in its order."""

    def __init__(self, place):
        root = place / "home"
        self._inbox, self._manifests = root / "inbox", root / "manifests"
        self._images = root / "images"
        folders = Folders(self._inbox, self._images, self._manifests, root / "stuck.json")
        self._intake = Intake(folders, Acceptance(settle_seconds=0))
        self._table = Predictions(str(root / "predictions"))
        self._reader, self._done = ManifestReader(self._manifests, 1000), {}

    def send(self, name):
        """A file that its sender has synced, and its name too."""
        whole = self._inbox.parent / name
        whole.write_bytes(name.encode())
        disk.sync(whole)
        whole.rename(self._inbox / name)
        disk.sync(self._inbox)
        return name

    def step(self, number):
        """The intake takes what is there, it is a micro-batch, and the next one has begun."""
        self._intake.take()
        found = between(self._manifests, self._done)
        self._table.append(rows(read(found), number), "app", number)
        self._done = {KEY: found[-1].name}
        self._reader.commit(self._done)

    def found(self):
        """All images after a start, of rows and of events that will be rows: name and content."""
        self._intake.take()
        told = DeltaTable(self._table.path).to_pyarrow_table(columns=list(NAMES)).to_pylist()
        known = {row["event_id"] for row in told}
        told += [
            event for event in read(between(self._manifests, {})).to_pylist()
            if event["event_id"] not in known
        ]  # fmt: skip
        assert not any(self._inbox.iterdir())
        return [(each["original_name"], self._content(each["uri"])) for each in told]

    def _content(self, uri):
        with suppress(FileNotFoundError):
            return (self._images / uri).read_bytes()


def rows(events, number):
    now = datetime.now(UTC)
    made = {"status": "ok", "processed_at": now, "batch_id": number, "date": now.date()}
    kept = ("event_id", "source", "uri", "original_name", "event_time", "bytes")
    found = [
        dict.fromkeys(ROW.names) | made | {name: event[name] for name in kept}
        for event in events.to_pylist()
    ]
    return pa.Table.from_pylist([each | {"event_time": now} for each in found], ROW)
