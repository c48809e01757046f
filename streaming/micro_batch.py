"""Micro-batches: events become rows of the table exactly once, wherever a crash comes.

Their numbers are in the table, which skips them; with a new checkpoint, event ids are compared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.errors import reason
from sightstream.scoring.framed import further
from sightstream.tables.rows import Other
from sightstream.tables.rows import rows as rows_of
from streaming import checkpoint
from streaming.known import known
from streaming.lineup import Lineup
from streaming.source import Source, Work

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sightstream.models.version import ServedModel
    from sightstream.tables.predictions import Predictions
    from streaming.champion import Champion
    from streaming.observe.metrics import Metrics
    from streaming.workers import Workers

log = logging.getLogger(__name__)

OnRows = Callable[[pa.Table], None]


@dataclass
class MicroBatches:
    """The micro-batches of a source, one after the other, in the thread of its query."""

    source: Source
    table: Predictions
    champion: Champion
    workers: Workers
    metrics: Metrics
    on_rows: OnRows
    lineup: Lineup = field(default_factory=Lineup)

    def __post_init__(self) -> None:
        self.images = 0
        # Images that have a row already, and get no second one.
        self.repeats = 0
        self.doubt()

    def doubt(self) -> None:
        """Ask the table again, after a failure: a commit that failed may have been made."""
        self._app_id, self._last = "", -1
        self._doubtful = True

    def run(self, batch: DataFrame, batch_id: int, goes_on: Callable[[], bool]) -> None:
        """Bring a micro-batch into the table, unless the table has it.

        `goes_on` returns whether the query still runs; it is asked before a failure is blamed on an
        image.
        """
        if not self._app_id:
            self._app_id = checkpoint.own(self.source.checkpoint, self.table)
            last = self.table.last_batch(self._app_id)
            self._last = -1 if last is None else last
        begin, rows = time.monotonic(), None
        work = self.source.work(batch, batch_id)
        if batch_id > self._last:
            model = self.champion.model
            events, answers, others = self._answers(work, model, goes_on)
            self.metrics.phase("classify", time.monotonic() - begin)
            rows = self._committed(events, answers, model, others, batch_id)
            self._report(rows, answers, model)
            self.metrics.agreement(answers, model, others)
            self.lineup.note(others)
            self.images += len(events) - further(answers)
            self.repeats += len(events) - len(rows)
        self.source.done(batch_id, work.images, rows)

    def _committed(
        self, events: pa.Table, answers: pa.Table, model: ServedModel, others: Sequence[Other],
        batch_id: int,
    ) -> pa.Table:  # fmt: skip
        begin = time.monotonic()
        share = self.lineup.share(model, others)
        rows = rows_of(events, answers, model, batch_id, others, share)
        new = self.source.first(self._new(rows) if self._doubtful else rows)
        # Rows that are all new end the doubt: those that the source has left out are not.
        self._doubtful = self._doubtful and not 0 < len(new) == len(rows)
        rows = self.table.append(new, self._app_id, batch_id)
        self._last = batch_id
        self.metrics.phase("commit", time.monotonic() - begin)
        return rows

    def _report(self, rows: pa.Table, answers: pa.Table, model: ServedModel) -> None:
        self.metrics.count(rows, model)
        self.metrics.compare(answers, model)
        try:
            self.on_rows(rows)
        except Exception as error:  # the rows are committed, even if they cannot be shown
            log.warning("rows could not be shown: %s", error)

    def _answers(
        self, work: Work, model: ServedModel, goes_on: Callable[[], bool]
    ) -> tuple[pa.Table, pa.Table, Sequence[Other]]:
        others = self.lineup.beside(model)
        try:
            if not others:
                return *self.workers.answers(work, model, self.source), ()
            resting = self.lineup.resting(others)
            return self.workers.all_answers(work, model, self.source, others, resting)
        except Exception as error:
            if not goes_on() or not self.source.check():
                raise
            log.error("a micro-batch failed, and is run again in isolation: %s", reason(error))
            return *self.workers.isolated(work, model, self.source), ()

    def _new(self, rows: pa.Table) -> pa.Table:
        """Leave out events that have a row."""
        held = known(self.table, rows, rows["date"].unique().to_pylist())
        return rows.filter(pc.invert(pc.is_in(rows["event_id"], pa.array(held, pa.string()))))
