"""The inbox as a source: files become manifests, and manifests the tasks of micro-batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

from sightstream.errors import EnvironmentUnfitError, InputError
from sightstream.io.folder import files
from sightstream.io.ignored import ignored
from sightstream.tables.schema import EVENT_COLUMNS, ddl
from streaming import checkpoint
from streaming.folder.assignment import AssignedImages, Assignment
from streaming.folder.intake import Folders, Intake
from streaming.folder.manifests import between, pending, places, read
from streaming.source import Tasks, Work

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.config import Acceptance
    from sightstream.scoring.udf import Read


class Takes(Protocol):
    """An intake: it takes what arrives, and writes it into manifests."""

    @property
    def left(self) -> Mapping[str, str]:
        """What could not be taken, by name, with the reason."""

    def run(self, stop: Event) -> None:
        """Take what arrives until `stop` is set."""

    def drain(self) -> int:
        """Take all that is there; return the number of images."""


class Manifested:
    """Images in manifests; see `streaming.source.Source` for the order of calls."""

    name: str
    read: Read
    _intake: Takes

    def __init__(
        self, manifests: Path, checkpoint: Path, images_per_batch: int, turns: Path | None,
        on_arrival: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Count the images that wait from an earlier run.

        `turns` is a folder that all tasks share, on one machine; None where they are on several.
        """
        self.checkpoint = checkpoint
        self._manifests = manifests
        self._images_per_batch = images_per_batch
        self._turns = turns
        self._on_arrival = on_arrival
        self._tasks = Tasks()
        self._left: Mapping[str, str] = {}
        # Each is changed by one thread only: the intake's, and the query's.
        self._accepted, self._done = waiting(self._manifests, checkpoint), 0
        self._counted = -1

    @property
    def left(self) -> Mapping[str, str]:
        """What `drain` could not take, by name, with the reason."""
        return self._left

    @property
    def behind(self) -> int:
        """Images that were accepted and have no row yet."""
        return self._accepted - self._done

    def events(self, session: SparkSession) -> DataFrame:
        """Return the manifests as a stream, of which Spark needs the offsets alone."""
        from streaming.folder.spark_source import ManifestSource

        session.dataSource.register(ManifestSource)
        reader = session.readStream.format(ManifestSource.name())
        # A schema that Spark knows is asked of no process, each of which would import pyarrow.
        reader = reader.schema(ddl(EVENT_COLUMNS)).option("path", str(self._manifests))
        return reader.option("images", self._images_per_batch).load()

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """Return one task for a few images, else as many as there are cores."""
        start, end = (checkpoint.offset(self.checkpoint, n, str) for n in (batch_id - 1, batch_id))
        images = len(read(between(self._manifests, start, end)))
        number, tasks = self._tasks.of(images, batch.sparkSession)
        assignment = Assignment(start, end, images, number)
        turns = self._turns if number > 1 else None
        return Work(images, tasks, partial(assignment.text, turns))

    def first(self, rows: pa.Table) -> pa.Table:
        """Return all rows: the intake gives each image an id of its own."""
        return rows

    def done(self, batch_id: int, images: int, rows: pa.Table | None) -> None:
        """Count the images of a micro-batch, once: it comes again where Spark cannot note it."""
        if batch_id > self._counted:
            self._counted, self._done = batch_id, self._done + images

    def drain(self) -> int:
        """Take what is complete in the inbox."""
        taken = self._intake.drain()
        self._left = self._intake.left
        return taken

    def watch(self, stop: Event) -> None:
        """Take what is dropped into the inbox from now on."""
        Thread(target=self._intake.run, args=(stop,), name="intake", daemon=True).start()

    def changed(self) -> bool:
        """Return False: a folder stays what it is."""
        return False

    def check(self) -> bool:
        """Return True: faults of a local folder are those of the query."""
        return True

    def _arrived(self, images: int) -> None:
        self._accepted += images
        self._on_arrival(images)


class Folder(Manifested):
    """The inbox of a home folder."""

    name = "folder"

    def __init__(
        self, folders: Folders, checkpoint: Path, when: Acceptance, images_per_batch: int,
        turns: Path | None, on_arrival: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Open the inbox, and count the images that wait; see `Manifested`."""
        self._intake = Intake(folders, when, images_per_batch, self._arrived)
        self.read = AssignedImages(folders.images, folders.manifests)
        super().__init__(folders.manifests, checkpoint, images_per_batch, turns, on_arrival)
        if self.behind and not any(folders.images.iterdir()):
            raise EnvironmentUnfitError(
                f"{folders.images} is empty, and {self.behind} images in it wait for their rows; "
                "mount its disk, or make a folder in it, and they are rejected as not found"
            )


def held(manifests: Path, checkpoint_folder: Path) -> set[str]:
    """Return the places below the folder of images of those that no committed micro-batch holds.

    Also of those that the intake moves just now. ValueError where a manifest is damaged.
    """
    found = set[str]()
    if not manifests.is_dir():  # images came by another source
        return found
    for path in pending(manifests):
        with suppress(FileNotFoundError, ValueError):  # it is published by now, or has moved none
            found.update(places(read([path])).to_pylist())
    for path in between(manifests, checkpoint.offset(checkpoint_folder, of=str)):
        with suppress(FileNotFoundError):  # all its images have rows since
            found.update(places(read([path])).to_pylist())
    return found


def arrived(inbox: Path, ignore: Sequence[str]) -> int:
    """Return the number of files in an inbox that no run has taken yet."""
    if not inbox.is_dir():
        return 0
    return sum(1 for _ in files(os.fsencode(inbox), ignored(ignore)))


def waiting(manifests: Path, checkpoint_folder: Path) -> int:
    """Return the number of images in manifests that no committed micro-batch holds."""
    if not manifests.is_dir():
        return 0
    try:
        return len(read(between(manifests, checkpoint.offset(checkpoint_folder, of=str))))
    except ValueError as error:
        raise InputError(f"{error}; move it away, and its images back into the inbox") from None
