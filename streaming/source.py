"""The contract of a source: how images come in, and become the tasks of a micro-batch.

The sources are `streaming.folder.source` and `streaming.kafka.source`; `streaming.job` makes them
and gives each a streaming query, with a checkpoint and a thread of its own.

The thread that runs the stream calls `events` when the query starts and again at each restart,
`watch` after the first start or else `drain` before it, once, and `check` after each failure.
The query's thread calls `work`, `first` and `done` for each micro-batch, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.scoring.udf import Read

SMALL = 32  # images below which a micro-batch is one task: to divide it costs more than it saves


class Work(NamedTuple):
    """The tasks of a micro-batch of some images."""

    images: int
    tasks: DataFrame
    """A row or more for each task, in a partition of its own; planned once for each model version
    if it is the same DataFrame each time."""
    assignment: Callable[[], str] = str
    """Makes the text that each task gets beside its rows; called once for each job that runs the
    tasks, so that a job that failed leaves nothing to the next."""


class Tasks:
    """Constant tasks, so that Spark makes one plan for all micro-batches of a model version."""

    def __init__(self) -> None:
        self._made: dict[int, DataFrame] = {}

    def of(self, images: int, session: SparkSession) -> tuple[int, DataFrame]:
        """Return one task for a few images, else as many as there are cores; and their number."""
        tasks = session.sparkContext.defaultParallelism if images >= SMALL else 1
        if tasks not in self._made:
            self._made[tasks] = session.range(0, tasks, 1, tasks)
        return tasks, self._made[tasks]


class Reader(Protocol):
    """What Spark's workers need of a way for images to come in."""

    name: str
    """Of the query, its pool of tasks, and the column `source` of its rows; never changed."""
    read: Read
    """Reads the images of a task. It is pickled and runs in Spark's workers, any number at once
    and again for a task that failed, so it must not change anything."""


class Source(Reader, Protocol):
    """A way for images to come in."""

    checkpoint: Path
    """The folder of the query's checkpoint, where Spark writes, and beside it `checkpoint.OWNER`
    and Kafka's topic id."""

    @property
    def left(self) -> Mapping[str, str]:
        """What `drain` could not take, by name, with the reason; a bucket while it is away."""

    @property
    def behind(self) -> int:
        """Images that arrived and have no row yet, as of the last look; 0 means all is done.

        Read several times a second, from any thread, so it must not ask a broker or list a folder.
        """

    def events(self, session: SparkSession) -> DataFrame:
        """Return a streaming DataFrame, whose rows are the events or stand for them.

        No micro-batch of this source runs meanwhile. It must not read events, and must not depend
        on an earlier call: Spark continues from the checkpoint.
        """

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """Return the tasks of a micro-batch.

        After a crash or a failure the same number comes again, and must give the same events. It
        must not run the tasks, and must not count the micro-batch as done.
        """

    def first(self, rows: pa.Table) -> pa.Table:
        """Return the rows without those of events that have a row already.

        Called before the rows are committed; not for a micro-batch that the table holds. It must
        remember nothing: the commit may fail, and the same rows come again.
        """

    def done(self, batch_id: int, images: int, rows: pa.Table | None) -> None:
        """Note that a micro-batch is in the table; again where Spark could not note it.

        Rows are None where they were committed before, since a crash came between that commit and
        Spark's own. It must not raise for what can wait: Spark would run the micro-batch again.
        """

    def drain(self) -> int:
        """Take the images after which the stream is to end; return their number; may block."""

    def watch(self, stop: Event) -> None:
        """Take images from now on, until `stop` is set.

        It must return at once: what it does runs in a daemon thread of its own, which must survive
        any failure and end soon after `stop` is set.
        """

    def changed(self) -> bool:
        """Return whether the input is another since the query started, which must start anew.

        Called several times a second, so it tells what the last look found.

        Raises:
            SightstreamError: the input needs a person; the stream ends with this error.
        """

    def check(self) -> bool:
        """Return whether the query's input is reachable, so that a failure is not its absence.

        Called before each restart too, and from the query's thread before a failed micro-batch is
        isolated. While it returns False nothing counts as a failure. It must answer in seconds.

        Raises:
            SightstreamError: the input needs a person; the stream ends with this error.
        """
