"""Spark's Python workers: they apply a model to the images that tasks read."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.scoring import retry, udf
from sightstream.scoring.classifier import Answer
from sightstream.tables.rows import Other
from sightstream.tables.schema import ANSWER, EVENT, OTHER
from streaming.source import Reader, Work

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.images.limits import Limits
    from sightstream.models.version import ServedModel
    from sightstream.scoring.framed import Piece
    from streaming.lineup import Seated

log = logging.getLogger(__name__)

Key = tuple[str, int]

Shipped: TypeAlias = "tuple[Broadcast[ServedModel], Sequence[tuple[Broadcast[ServedModel], bool]]]"
"""The broadcasts of the first model and of the others, and which of these are shadows."""


class Workers:
    """The workers of a session, for all sources and models; its methods are safe in any thread."""

    def __init__(self, session: SparkSession, limits: Limits, top_k: int) -> None:
        self._session = session
        self._limits = limits
        self._top_k = top_k
        self._lock = Lock()
        self._broadcasts: dict[Key, Broadcast[ServedModel]] = {}
        self._in_use: dict[str, set[Key]] = {}
        self._plans: WeakKeyDictionary[DataFrame, tuple[Shipped, DataFrame]]
        self._plans = WeakKeyDictionary()

    def load(self, model: ServedModel, others: Sequence[Seated] = ()) -> None:
        """Load models in the workers, ahead of the first images that they answer for."""
        cores = self._session.sparkContext.defaultParallelism
        tasks = self._session.range(0, cores, 1, cores)
        self._applied(self._shipped(model, others), tasks, udf.nothing).toArrow()

    def answers(self, work: Work, model: ServedModel, source: Reader) -> tuple[pa.Table, pa.Table]:
        """Run the tasks of a micro-batch; return its events, and their answers in that order."""
        events, answers, _ = self.all_answers(work, model, source, (), ())
        return events, answers

    def all_answers(
        self, work: Work, model: ServedModel, source: Reader, others: Sequence[Seated],
        resting: Sequence[int],
    ) -> tuple[pa.Table, pa.Table, list[Other]]:  # fmt: skip
        """Return the same, and what others answer, of which some rest, by their number."""
        self._in_use[source.name] = {_key(model), *(each.key for each in others)}
        context = self._session.sparkContext
        context.setLocalProperty(udf.ASSIGNMENT, work.assignment())
        context.setLocalProperty(udf.LEFT_OUT, json.dumps(resting))
        found = self._planned(work.tasks, self._shipped(model, others), source.read).toArrow()
        events = udf.unpacked(found["events"], EVENT)
        answers = udf.unpacked(found["answers"], ANSWER)
        return *_told(events, answers), _split(found["others"], others)

    def isolated(self, work: Work, model: ServedModel, source: Reader) -> tuple[pa.Table, pa.Table]:
        """Return the same, image by image from a child process; those that end it are rejected."""
        import pandas as pd

        events, answers, assignment = [EVENT.empty_table()], list[Answer](), work.assignment()

        def read() -> Iterator[Piece]:
            # The driver holds one partition at a time, whatever the images weigh.
            for row in work.tasks.toLocalIterator():
                yield from source.read(pd.DataFrame([row.asDict()]), assignment)

        for piece, found in retry.answered(read(), model, self._limits, self._top_k):
            events.append(piece)
            answers += found
        return _told(pa.concat_tables(events), udf.table(answers))

    def _planned(self, tasks: DataFrame, shipped: Shipped, read: udf.Read) -> DataFrame:
        """Plan tasks once for each model version: that takes as long as running them."""
        known, planned = self._plans.get(tasks, (None, tasks))
        if known != shipped:
            planned = self._applied(shipped, tasks, read)
            self._plans[tasks] = shipped, planned
        return planned

    def _applied(self, shipped: Shipped, tasks: DataFrame, read: udf.Read) -> DataFrame:
        model, others = shipped
        answering = udf.Answering(model, self._limits, self._top_k, others)
        return tasks.mapInPandas(udf.packed_answers(answering, read), udf.PACKED)

    def _shipped(self, model: ServedModel, others: Sequence[Seated]) -> Shipped:
        beside = [(self._broadcast(each.model), each.is_shadow) for each in others]
        return self._broadcast(model), beside

    def _broadcast(self, model: ServedModel) -> Broadcast[ServedModel]:
        """Broadcast a version once, and drop old ones that no source uses."""
        with self._lock:
            if _key(model) not in self._broadcasts:
                self._broadcasts[_key(model)] = self._session.sparkContext.broadcast(model)
                busy = set().union(*self._in_use.values())
                kept = max(udf.KEPT, 2 * len(busy))
                for old in [key for key in list(self._broadcasts)[:-kept] if key not in busy]:
                    self._broadcasts.pop(old).destroy()
            return self._broadcasts[_key(model)]


def _told(events: pa.Table, answers: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Log the images that ended a process or took too long; return the arguments."""
    lost = pc.is_in(answers["error_code"], pa.array(["crashed", "timeout"]))
    names, reasons = events["uri"].filter(lost), answers["error_detail"].filter(lost)
    for name, reason in zip(names.to_pylist(), reasons.to_pylist(), strict=True):
        log.warning("%r: %s", name, reason)
    return events, answers


def _split(pieces: pa.ChunkedArray, others: Sequence[Seated]) -> list[Other]:
    """Return what each of the others answered, from pieces that hold one after the other."""
    found: list[list[pa.Table]] = [[OTHER.empty_table()] for _ in others]
    for piece in pieces if others else ():
        table = udf.unpacked([piece], OTHER)
        images = len(table) // len(others)
        for number, parts in enumerate(found):
            parts.append(table.slice(number * images, images))
    return [
        Other(each.model, each.alias, pa.concat_tables(parts))
        for each, parts in zip(others, found, strict=True)
    ]


def _key(model: ServedModel) -> Key:
    return model.name, model.version
