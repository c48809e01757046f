"""The work of a backfill: events are classified and committed, some seconds' worth at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.errors import StreamFailedError, reason
from sightstream.runtime import spark
from sightstream.scoring.framed import further
from sightstream.scoring.udf import Read
from sightstream.tables.rows import rows as rows_of
from streaming.backfill.plan import Plan, assignment
from streaming.bucket.store import reached
from streaming.source import SMALL, Work
from streaming.workers import Workers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.models.version import ServedModel
    from sightstream.tables.predictions import Predictions

log = logging.getLogger(__name__)

FIRST = 64
"""Images of the first commit, of which the size of the next one follows; they may be large."""

SECONDS = 5.0
"""Time between two commits that is aimed at; as much is lost at most when it is killed."""

LEAST, MOST = 32, 20_000
"""Images of a commit."""


@dataclass
class Done:
    """What this run has brought into the table.

    `rows` are fewer where others were first, and more where each frame has one.
    """

    images: int = 0
    rows: int = 0
    rejected: int = 0
    seconds: float = 0.0


class Backfill:
    """A plan, and all that carries it out. `name` and `read` are as a source has them."""

    name = "backfill"

    def __init__(
        self, plan: Plan, table: Predictions, model: ServedModel, read: Read, shared: bool
    ) -> None:
        """Look how far the table is.

        It is `shared` where others bring in events: it is asked for them before each commit then.
        """
        self.plan, self.read, self.done = plan, read, Done()
        self._table, self._model, self._shared = table, model, shared
        self._tasks: dict[int, DataFrame] = {}
        self.position = table.last_batch(plan.app_id) or 0

    def run(
        self, session: SparkSession, workers: Workers, turns: Path | None, stop: Event,
        on_step: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Go on from where the table is until all is done, or until the first commit after `stop`.

        `turns` is as in `folder.source.Folder`. `on_step` gets the number of events that are done.

        Raises:
            EnvironmentUnfitError: A bucket does not answer.
            StreamFailedError: Spark's JVM has ended.
        """
        workers.load(self._model)  # so that the first part tells how long one takes
        size = FIRST
        while self.position < self.plan.images and not stop.is_set():
            last = min(self.position + size, self.plan.images)
            begin = time.monotonic()
            events, answers = self._answers(session, workers, self._work(session, last, turns))
            self._commit(events, answers, last)
            on_step(last)
            took = time.monotonic() - begin
            self.done.seconds += took
            speed = (last - self.position) / took
            size = int(min(max(LEAST, speed * SECONDS), MOST))
            self.position = last

    def _work(self, session: SparkSession, last: int, turns: Path | None) -> Work:
        images = last - self.position
        tasks = session.sparkContext.defaultParallelism if images >= SMALL else 1
        share = assignment(self.position, last, tasks)
        text = partial(share.text, turns if tasks > 1 else None)
        if tasks not in self._tasks:
            self._tasks[tasks] = session.range(0, tasks, 1, tasks)
        return Work(images, self._tasks[tasks], text)

    def _answers(
        self, session: SparkSession, workers: Workers, work: Work
    ) -> tuple[pa.Table, pa.Table]:
        try:
            return workers.answers(work, self._model, self)
        except Exception as error:
            if not spark.is_alive(session):
                raise StreamFailedError(
                    "Spark's JVM has ended, as when it is killed or out of memory; nothing is "
                    "lost: the same command goes on"
                ) from error
            log.error("a part failed, and is run again in isolation: %s", reason(error))
            with reached(self.plan.source):
                return workers.isolated(work, self._model, self)

    def _commit(self, events: pa.Table, answers: pa.Table, last: int) -> None:
        images = len(events) - further(answers)
        if images != last - self.position:
            raise StreamFailedError(f"{images} answers for {last - self.position} images")
        rows = rows_of(events, answers, self._model, last)
        rows = self._table.append(self._new(rows), self.plan.app_id, last)
        self.done.images += images
        self.done.rows += len(rows)
        self.done.rejected += pc.sum(pc.equal(rows["status"], "rejected")).as_py() or 0

    def _new(self, rows: pa.Table) -> pa.Table:
        """Leave out images that others have classified since the plan was made."""
        if not self._shared:
            return rows
        return without(
            rows, pa.array(self._table.known(rows["event_id"], rows["date"]), pa.string())
        )


def without(rows: pa.Table, event_ids: pa.Array) -> pa.Table:
    """Return the rows, or events, without those of some ids."""
    return rows.filter(pc.invert(pc.is_in(rows["event_id"], event_ids)))
