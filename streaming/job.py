"""The stream, wired: intake, source, classifier, outcomes, champion, metrics and upkeep."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from sightstream import checkpoint, lock, spark
from sightstream.config import Settings
from sightstream.errors import ModelNotFoundError, StreamFailedError
from sightstream.events import local_path
from sightstream.predictions import Predictions
from sightstream.registry import Registry
from streaming import upkeep
from streaming.champion import Champion
from streaming.intake import Intake
from streaming.metrics import Metrics
from streaming.vitals import Vitals

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Broadcast
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from sightstream.models import ServedModel

log = logging.getLogger(__name__)

TRIGGER = 0.0
"""Seconds from micro-batch to micro-batch that are aimed at; 0: as soon as images wait."""

PATIENCE = 8
"""Failures in a row, with no committed micro-batch between them, that end the stream."""

OnRows = Callable[["pa.Table"], None]


class Stream:
    """A running stream; made by `running`."""

    def __init__(
        self, settings: Settings, session: SparkSession, champion: Champion, metrics: Metrics,
        on_rows: OnRows,
    ) -> None:  # fmt: skip
        """Opens the table and the inbox.

        Raises:
            CheckpointMismatchError: the checkpoint and the table tell different stories.
        """
        from streaming import sources

        self._settings = settings
        self._session = session
        self._metrics = metrics
        self._champion = champion
        self._on_rows = on_rows
        checkpoint.require_match(settings.checkpoint, settings.predictions)
        self.table = Predictions(settings.predictions)
        self._app_id = ""
        self._last = -1
        self._doubtful = True
        self._failures = 0
        self._stopping = Event()
        self._progress = time.monotonic()
        self._answers: dict[int, tuple[Broadcast[ServedModel], Column]] = {}
        self.intake = Intake(settings, self._arrived)
        # Each is changed by one thread only.
        self._accepted, self._answered_for = sources.waiting(settings), 0
        self._source = sources.manifests(session, settings)
        metrics.watch_behind(lambda: self.behind)
        metrics.aim(TRIGGER)
        self.metrics_port = metrics.port
        metrics.use(champion.model.name, champion.model.version)
        self._query: StreamingQuery | None = None

    @property
    def behind(self) -> int:
        """Images that were accepted and have no row yet."""
        return self._accepted - self._answered_for

    @property
    def model(self) -> str:
        """The model in use, with its version."""
        return str(self._champion.model)

    @property
    def idle(self) -> float:
        """Seconds since the last micro-batch; none while images wait for one."""
        return 0.0 if self.behind > 0 else time.monotonic() - self._progress

    def start(self) -> None:
        """Starts the query."""
        writer = self._source.writeStream.foreachBatch(self._batch).queryName("folder")
        writer = writer.option("checkpointLocation", str(self._settings.checkpoint))
        self._query = writer.trigger(processingTime=f"{TRIGGER} seconds").start()

    def watch_inbox(self, stop: Event) -> None:
        """Takes what is dropped into the inbox from now on, until `stop` is set."""
        Thread(target=self.intake.run, args=(stop,), name="intake", daemon=True).start()

    def tend(self) -> None:
        """Restarts a query that failed; to be called now and then.

        Raises:
            StreamFailedError: it failed `PATIENCE` times without a micro-batch in between.
        """
        if self._query is None or self._query.isActive:
            return
        error = self._query.exception()
        self._failures += 1
        reason = _reason(error)
        if self._failures >= PATIENCE:
            raise StreamFailedError(
                f"the stream failed {PATIENCE} times in a row: {reason}; nothing is lost: mend "
                f"that and start again; more is in {self._settings.logs}"
            )
        log.error("the query failed and is started again: %s", reason)
        self._metrics.restarted()
        # The commit that failed may have been made all the same: the table is asked again.
        self._app_id, self._doubtful = "", True
        self._stopping.wait(min(30.0, 2.0**self._failures / 2))
        self.start()

    def finish(self, stop: Event) -> None:
        """Classifies all that was accepted, and returns; earlier if `stop` is set.

        Raises:
            StreamFailedError: see `tend`.
        """
        while self.behind > 0 and not stop.wait(0.02):
            self.tend()
        self.table.maintain(quiet=False)

    def stop(self) -> None:
        """Lets the current micro-batch end, and begins no other."""
        self._stopping.set()
        while self._query and self._query.isActive and self._query.status["isTriggerActive"]:
            time.sleep(0.02)
        if self._query:
            self._query.stop()

    def _arrived(self, images: int) -> None:
        self._accepted += images
        self._metrics.arrived("folder", images)

    def _batch(self, batch: DataFrame, batch_id: int) -> None:
        if self._stopping.is_set():
            raise InterruptedError("the stream is being stopped")
        if not self._app_id:
            self._app_id = checkpoint.app_id(self._settings.checkpoint)
            last = self.table.last_batch(self._app_id)
            self._last = -1 if last is None else last
        # A crash may have come between the commit to the table and Spark's own.
        images = self._committed(batch, batch_id) if batch_id > self._last else batch.count()
        self._answered_for += images
        self._failures = 0
        self._progress = time.monotonic()

    def _committed(self, batch: DataFrame, batch_id: int) -> int:
        from streaming import outcomes

        begin = time.monotonic()
        model = self._champion.model
        answered = self._answered(batch, model)
        self._metrics.phase("classify", time.monotonic() - begin)
        begin = time.monotonic()
        rows = outcomes.rows(answered, model, batch_id)
        if self._doubtful:
            rows = self._new(rows)
        self.table.append(rows, self._app_id, batch_id)
        self._last = batch_id
        self._metrics.phase("commit", time.monotonic() - begin)
        self._metrics.count(rows, model.name, model.version)
        self._metrics.compare(answered["answer"], model)
        try:
            self._on_rows(rows)
        except Exception as error:  # the rows are committed, whoever cannot show them
            log.warning("rows could not be shown: %s", error)
        return int(answered.num_rows)

    def _new(self, rows: pa.Table) -> pa.Table:
        """Leaves out what a crash, or a new checkpoint, made the source tell once more.

        It tells them one after the other, so that a micro-batch without any is the last.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        known = self.table.known(rows["event_id"], rows["date"])
        self._doubtful = bool(known)
        if not known:
            return rows
        return rows.filter(pc.invert(pc.is_in(rows["event_id"], pa.array(sorted(known)))))

    def _answered(self, batch: DataFrame, model: ServedModel) -> pa.Table:
        from streaming.classifier import spread

        try:
            return spread(batch, self.behind).withColumn("answer", self._answer(model)).toArrow()
        except Exception as error:
            if self._stopping.is_set() or not self._query or not self._query.isActive:
                raise
            log.error("a micro-batch failed, and is run again in isolation: %s", _reason(error))
            return self._isolated(batch.toArrow(), model)

    def _isolated(self, events: pa.Table, model: ServedModel) -> pa.Table:
        import pyarrow as pa

        from sightstream.classify import Answer
        from streaming import classifier, isolation

        settings = self._settings
        pairs = list(zip(events["uri"].to_pylist(), events["error_code"].to_pylist(), strict=True))
        paths = [local_path(uri) for uri, refused in pairs if refused is None]
        answers = iter(isolation.classify(paths, model, settings.limits, settings.top_k))
        rows = [vars(next(answers) if refused is None else Answer()) for _, refused in pairs]
        return events.append_column("answer", pa.array(rows, classifier.arrow_type()))

    def _answer(self, model: ServedModel) -> Column:
        """The column that a version computes; made once, for its pickled UDF holds the model."""
        from pyspark.sql import functions as F  # noqa: N812

        from streaming.classifier import KEPT, classify

        if model.version not in self._answers:
            broadcast = self._session.sparkContext.broadcast(model)
            udf = classify(broadcast, self._settings.limits, self._settings.top_k)
            answer = udf(F.when(F.col("error_code").isNull(), F.col("uri")))
            self._answers[model.version] = (broadcast, answer)
            for old in list(self._answers)[:-KEPT]:
                self._answers.pop(old)[0].destroy()
        return self._answers[model.version][1]


@contextmanager
def running(settings: Settings, on_rows: OnRows) -> Iterator[Stream]:
    """Starts all parts of the stream but the query; ends them in order, whatever happens.

    Args:
        settings: the home folder, the model, Spark, the limits and the endpoint.
        on_rows: called with the rows of each committed micro-batch.

    Raises:
        SightstreamError: of the kind that says what is to be mended.
    """
    figures = Metrics()
    with ExitStack() as stack, ThreadPoolExecutor(1) as beside:
        stack.enter_context(lock.held(settings.root))
        shutil.rmtree(settings.root / "tmp" / "run", ignore_errors=True)
        stack.callback(figures.serve(settings))
        registry = Registry(settings)
        if not registry.exists:
            raise ModelNotFoundError(
                f"the registry {registry.uri} is empty; train a model with: sightstream train"
            )
        # MLflow's import and Spark's start take seconds each.
        champion = beside.submit(Champion, settings, registry, figures.reloaded)
        session = spark.start(settings, "run")
        stack.callback(spark.stop, session)
        stream = Stream(settings, session, champion.result(), figures, on_rows)
        figures.listen(session)
        stop = Event()
        stack.callback(stop.set)
        stack.callback(stream.stop)
        for target in (
            lambda: champion.result().watch(stop),
            lambda: upkeep.run(settings, stream.table, lambda: stream.idle, stop),
            lambda: Vitals(settings, figures.registry).watch(registry, session, stop),
        ):
            Thread(target=target, daemon=True).start()
        yield stream


def _reason(error: object) -> str:
    """The line of Spark's long text that says what happened."""
    text = str(error).partition("=== Streaming Query ===")[0]
    lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1][:500] if lines else type(error).__name__
