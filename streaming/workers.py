"""Spark's Python workers: they apply a model to the images that tasks read."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pyarrow as pa

from sightstream.scoring import udf
from sightstream.tables.schema import ANSWER, EVENT
from streaming.source import Source, Work

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.images.limits import Limits
    from sightstream.images.store import Image
    from sightstream.models.version import ServedModel

Key = tuple[str, int]


class Workers:
    """The workers of a session, for all sources and models; its methods are safe in any thread."""

    def __init__(self, session: SparkSession, limits: Limits, top_k: int) -> None:
        self._session = session
        self._limits = limits
        self._top_k = top_k
        self._lock = Lock()
        self._broadcasts: dict[Key, Broadcast[ServedModel]] = {}
        self._in_use: dict[str, Key] = {}
        self._plans: WeakKeyDictionary[DataFrame, tuple[Broadcast[ServedModel], DataFrame]]
        self._plans = WeakKeyDictionary()

    def load(self, model: ServedModel) -> None:
        """Load a model in the workers, ahead of the first images that it answers for."""
        cores = self._session.sparkContext.defaultParallelism
        tasks = self._session.range(0, cores, 1, cores)
        self._applied(self._broadcast(model), tasks, udf.nothing).toArrow()

    def answers(self, work: Work, model: ServedModel, source: Source) -> tuple[pa.Table, pa.Table]:
        """Run the tasks of a micro-batch; return its events, and their answers in that order."""
        self._in_use[source.name] = _key(model)
        self._session.sparkContext.setLocalProperty(udf.ASSIGNMENT, work.assignment())
        found = self._planned(work.tasks, model, source.read).toArrow()
        events = udf.unpacked(found["events"], EVENT)
        return events, udf.unpacked(found["answers"], ANSWER)

    def isolated(self, work: Work, model: ServedModel, source: Source) -> tuple[pa.Table, pa.Table]:
        """Return the same, image by image from a child process; those that end it are rejected."""
        import pandas as pd

        from sightstream.scoring import retry

        events, assignment = [EVENT.empty_table()], work.assignment()

        def images() -> Iterator[Image | None]:
            # The driver holds one partition at a time, whatever the images weigh.
            for row in work.tasks.toLocalIterator():
                for piece, found in source.read(pd.DataFrame([row.asDict()]), assignment):
                    events.append(piece)
                    yield from found

        answers = udf.table(list(retry.classify(images(), model, self._limits, self._top_k)))
        return pa.concat_tables(events), answers

    def _planned(self, tasks: DataFrame, model: ServedModel, read: udf.Read) -> DataFrame:
        """Plan tasks once for each model version: that takes as long as running them."""
        broadcast = self._broadcast(model)
        known, planned = self._plans.get(tasks, (None, tasks))
        if known is not broadcast:
            planned = self._applied(broadcast, tasks, read)
            self._plans[tasks] = broadcast, planned
        return planned

    def _applied(
        self, model: Broadcast[ServedModel], tasks: DataFrame, read: udf.Read
    ) -> DataFrame:
        answering = udf.Answering(model, self._limits, self._top_k)
        return tasks.mapInPandas(udf.packed_answers(answering, read), udf.PACKED)

    def _broadcast(self, model: ServedModel) -> Broadcast[ServedModel]:
        """Broadcast a version once, and drop old ones that no source uses."""
        with self._lock:
            if _key(model) not in self._broadcasts:
                self._broadcasts[_key(model)] = self._session.sparkContext.broadcast(model)
                busy = set(self._in_use.values())
                for old in [key for key in list(self._broadcasts)[: -udf.KEPT] if key not in busy]:
                    self._broadcasts.pop(old).destroy()
            return self._broadcasts[_key(model)]


def _key(model: ServedModel) -> Key:
    return model.name, model.version
