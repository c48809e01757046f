"""The streaming query of a source: started, restarted after failures, and stopped in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from sightstream.errors import StreamFailedError, reason
from streaming import checkpoint
from streaming.micro_batch import MicroBatches
from streaming.source import Source

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming import StreamingQuery

log = logging.getLogger(__name__)

FAILURES = 8  # in a row, without a micro-batch that Spark noted as done, that end the stream
LONGEST_PAUSE = 30.0  # seconds until a failed query is restarted; the first restart comes after one
LEAVE_SECONDS = 10.0  # for a query without a micro-batch to end by itself
OnBatch = Callable[["DataFrame", int], None]
Launch = Callable[[OnBatch], "StreamingQuery"]
"""Starts a streaming query that calls the function with each micro-batch and its number."""


@dataclass
class Query:
    """Keeps the query of a source running; its methods are called from one thread.

    Once `stopping` is set, no other micro-batch begins.
    """

    source: Source
    batches: MicroBatches
    launch: Launch
    stopping: Event
    on_restart: Callable[[], None]
    logs: Path

    def __post_init__(self) -> None:
        self.progress = time.monotonic()
        self.restarts = 0
        """Failures since Spark last noted a micro-batch as done, also those that end no stream."""
        self.why = ""
        """The reason of the latest."""
        self._failures = 0
        self._committed = -1
        """The last micro-batch that Spark had committed at the latest failure."""
        self._next = 0.0
        self._busy = False
        self._query: StreamingQuery | None = None
        self._error: Exception | None = None

    def start(self) -> None:
        """Start the query; where its source is not ready, or Spark fails to, `tend` tries again."""
        # Spark would note an end before the begin where an open transaction holds back what was
        # read without waiting for it, and never get past that.
        if self.source.check():
            self._launch()
        else:
            self._next = time.monotonic()

    def _launch(self) -> None:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        self._query = None
        try:
            self._query = self.launch(self._batch)
        # Spark asks a Python worker for the source, and any worker may die.
        except (PySparkException, Py4JError) as error:
            self._error = error

    def tend(self) -> None:
        """Restart the query if it failed, after a pause; see `Stream.tend`."""
        if self.source.changed() and self._query and self._query.isActive:
            self._query.stop()
        # One that the table has is no progress while Spark cannot note it, and so runs it again.
        if (self._failures or self.restarts) and self._noted() != self._committed:
            self._failures = self.restarts = 0
        # The question whether it is active takes Spark 2 ms while the cores are busy.
        if self._busy or (self._query and self._query.isActive):
            return
        now = time.monotonic()
        if not self._next:
            self._fail()
            self._next = now + min(LONGEST_PAUSE, 2.0**self._failures / 2)
        if now >= self._next and self.source.check():
            self._next = 0.0
            self._launch()

    def stop(self) -> None:
        """Stop the query once its current micro-batch has ended."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._query and self._query.isActive and self._query.status["isTriggerActive"]:
            # Spark may be waiting for a broker that does not answer.
            if not self._busy and time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if self._query:
            self._query.stop()

    def _fail(self) -> None:
        error = self._query.exception() if self._query else self._error
        self._committed = self._noted()
        self._failures += self.source.check()
        if self._failures >= FAILURES:
            raise StreamFailedError(
                f"the stream failed {FAILURES} times in a row: {reason(error)}; nothing is lost: "
                f"correct that and start again; details are in {self.logs}"
            )
        why = reason(error or "its input is new")
        log.error("the query failed and is started again: %s", why)
        if error:
            self.restarts, self.why = self.restarts + 1, why
        self.on_restart()
        self.batches.doubt()

    def _noted(self) -> int:
        """Return the last micro-batch that Spark has committed."""
        with suppress(OSError):  # the disk may be what fails
            return checkpoint.committed(self.source.checkpoint)
        return self._committed

    def _batch(self, batch: DataFrame, batch_id: int) -> None:
        if self.stopping.is_set():
            raise InterruptedError("the stream is being stopped")
        self._busy = True
        try:
            self.batches.run(batch, batch_id, self._goes_on)
            self.progress = time.monotonic()
        finally:
            self._busy = False

    def _goes_on(self) -> bool:
        return not self.stopping.is_set() and bool(self._query and self._query.isActive)
