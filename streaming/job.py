"""The stream, wired: sources, classifier, outcomes, champion, publisher, metrics and upkeep."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sightstream.config import Settings
from sightstream.errors import ModelNotFoundError, StreamFailedError
from sightstream.io import lock
from sightstream.models.registry import Registry
from sightstream.runtime import spark
from sightstream.tables.predictions import Predictions
from streaming import checkpoint, upkeep
from streaming.champion import Champion
from streaming.kafka.publisher import publishing
from streaming.observe import gauges
from streaming.observe.listener import listen
from streaming.observe.metrics import Metrics

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from sightstream.models.version import ServedModel
    from sightstream.scoring.classifier import Image
    from sightstream.scoring.udf import Read
    from streaming.folder.source import Source, Work

log = logging.getLogger(__name__)

TRIGGER = 0.0
"""Seconds from micro-batch to micro-batch that are aimed at; 0: as soon as images wait."""

PATIENCE = 8
"""Failures in a row, with no committed micro-batch between them, that end the stream."""

LEAVE = 10.0
"""Seconds that a query between two micro-batches is given to leave by itself."""

OnRows = Callable[["pa.Table"], None]


class Stream:
    """A running stream: a query for each source, one table, one champion; made by `running`."""

    def __init__(
        self, settings: Settings, session: SparkSession, champion: Champion, metrics: Metrics,
        table: Predictions, sources: Sequence[Source], on_rows: OnRows,
    ) -> None:  # fmt: skip
        """Prepares a query for each source."""
        self.settings = settings
        self.session = session
        self.metrics = metrics
        self.champion = champion
        self.on_rows = on_rows
        self.stopping = Event()
        self.table = table
        self._broadcasts: dict[int, Broadcast[ServedModel]] = {}
        self._lock = Lock()
        self._queries = [Query(self, each) for each in sources]
        metrics.watch_behind(lambda: self.behind)
        metrics.aim(TRIGGER)
        self.metrics_port = metrics.port
        self._expect(champion.model)
        metrics.use(champion.model)

    @property
    def behind(self) -> int:
        """Images that have arrived and have no row yet."""
        return sum(query.source.behind for query in self._queries)

    @property
    def model(self) -> str:
        """The model in use, with its version."""
        return str(self.champion.model)

    @property
    def idle(self) -> float:
        """Seconds since the last micro-batch; none while images wait for one."""
        latest = max(query.progress for query in self._queries)
        return 0.0 if self.behind > 0 else time.monotonic() - latest

    def start(self) -> None:
        """Starts the queries, and has the workers load the model meanwhile."""
        Thread(target=self._warm_up, daemon=True).start()
        for query in self._queries:
            query.start()

    def watch(self, stop: Event) -> None:
        """Takes what arrives from now on, until `stop` is set."""
        for query in self._queries:
            query.source.watch(stop)

    def drain(self) -> int:
        """Takes what is there, and returns how many images these are."""
        return sum(query.source.drain() for query in self._queries)

    def tend(self) -> None:
        """Restarts queries that failed; to be called now and then.

        Raises:
            StreamFailedError: one failed `PATIENCE` times without a micro-batch in between.
            SightstreamError: a source says what is to be mended.
        """
        for query in self._queries:
            query.tend()

    def finish(self, stop: Event) -> None:
        """Classifies all that was taken, and returns; earlier if `stop` is set.

        Raises:
            SightstreamError: see `tend`.
        """
        while self.behind > 0 and not stop.wait(0.02):
            self.tend()
        self.table.maintain(quiet=False)

    def stop(self) -> None:
        """Lets the current micro-batches end, and begins no other."""
        self.stopping.set()
        if not spark.is_alive(self.session):
            return
        for query in self._queries:
            query.stop()

    def broadcast(self, model: ServedModel) -> Broadcast[ServedModel]:
        """A version as the workers get it, which is made once."""
        from sightstream.scoring.udf import KEPT

        with self._lock:
            if model.version not in self._broadcasts:
                self._broadcasts[model.version] = self.session.sparkContext.broadcast(model)
                busy = {query.version for query in self._queries}
                for old in [v for v in list(self._broadcasts)[:-KEPT] if v not in busy]:
                    self._broadcasts.pop(old).destroy()
            return self._broadcasts[model.version]

    def applied(self, model: Broadcast[ServedModel], tasks: DataFrame, read: Read) -> DataFrame:
        """What a version answers to the images that are read for the rows of tasks."""
        from sightstream.scoring.udf import PACKED, classify

        limits, top_k = self.settings.limits, self.settings.top_k
        return tasks.mapInPandas(classify(model, limits, top_k, read), PACKED)

    def ready(self, model: ServedModel) -> None:
        """Has the workers load a version ahead of the first micro-batch that it answers."""
        from sightstream.scoring.udf import nothing

        cores = self.session.sparkContext.defaultParallelism
        tasks = self.session.range(0, cores, 1, cores)
        self.applied(self.broadcast(model), tasks, nothing).toArrow()
        self._expect(model)

    def _warm_up(self) -> None:
        try:
            self.ready(self.champion.model)
        except Exception as error:  # the first micro-batch meets the same, and says so
            log.info("the model was not loaded ahead of its first images: %s", _reason(error))

    def _expect(self, model: ServedModel) -> None:
        self.metrics.expect([query.source.name for query in self._queries], model)


class Query:
    """The streaming query of a source."""

    def __init__(self, stream: Stream, source: Source) -> None:
        """Prepares it."""
        self.source = source
        self.progress = time.monotonic()
        self.version = 0
        self._stream = stream
        self._app_id = ""
        self._last = -1
        self._doubtful = True
        self._failures = 0
        self._next = 0.0
        self._busy = False
        self._plans: WeakKeyDictionary[DataFrame, tuple[Broadcast[ServedModel], DataFrame]]
        self._plans = WeakKeyDictionary()
        self._query: StreamingQuery | None = None
        self._error: Exception | None = None

    def start(self) -> None:
        """Starts it; where Spark fails to, `tend` does so again."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        self._query = None
        try:
            self._query = self._started()
        # A Python worker tells Spark what the source is, and ends as any other may.
        except (PySparkException, Py4JError) as error:
            self._error = error

    def _started(self) -> StreamingQuery:
        session = self._stream.session
        # Its jobs share the cores with those of other queries, instead of waiting behind them.
        session.sparkContext.setLocalProperty("spark.scheduler.pool", self.source.name)
        writer = self.source.events(session).writeStream.foreachBatch(self._batch)
        writer = writer.queryName(self.source.name)
        writer = writer.option("checkpointLocation", str(self.source.checkpoint))
        return writer.trigger(processingTime=f"{TRIGGER} seconds").start()

    def tend(self) -> None:
        """Restarts it if it failed, after a pause; see `Stream.tend`."""
        # To ask Spark takes 2 ms while the cores are busy.
        if self._busy or (self._query and self._query.isActive):
            return
        now = time.monotonic()
        if not self._next:
            error = self._query.exception() if self._query else self._error
            there = self.source.check()
            self._failures += there
            reason = _reason(error)
            if self._failures >= PATIENCE:
                raise StreamFailedError(
                    f"the stream failed {PATIENCE} times in a row: {reason}; nothing is lost: mend "
                    f"that and start again; more is in {self._stream.settings.logs}"
                )
            log.error("the query failed and is started again: %s", reason)
            self._stream.metrics.restarted()
            # The commit that failed may have been made all the same: the table is asked again.
            self._app_id, self._doubtful = "", True
            self._next = now + min(30.0, 2.0**self._failures / 2)
        if now >= self._next and self.source.check():
            self._next = 0.0
            self.start()

    def stop(self) -> None:
        """Lets the current micro-batch end."""
        deadline = time.monotonic() + LEAVE
        while self._query and self._query.isActive and self._query.status["isTriggerActive"]:
            # Spark may be waiting for a broker that is away.
            if not self._busy and time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if self._query:
            self._query.stop()

    def _batch(self, batch: DataFrame, batch_id: int) -> None:
        if self._stream.stopping.is_set():
            raise InterruptedError("the stream is being stopped")
        self._busy = True
        try:
            self._run(batch, batch_id)
        finally:
            self._busy = False

    def _run(self, batch: DataFrame, batch_id: int) -> None:
        if not self._app_id:
            self._app_id = checkpoint.app_id(self.source.checkpoint)
            last = self._stream.table.last_batch(self._app_id)
            self._last = -1 if last is None else last
        # A crash may have come between the commit to the table and Spark's own.
        if batch_id > self._last:
            work, rows = self._committed(batch, batch_id)
        else:
            work, rows = self.source.work(batch, batch_id), None
        self.source.done(batch_id, work.images, rows)
        self._failures = 0
        self.progress = time.monotonic()

    def _committed(self, batch: DataFrame, batch_id: int) -> tuple[Work, pa.Table]:
        from sightstream.tables import rows as outcomes

        metrics = self._stream.metrics
        begin = time.monotonic()
        model = self._stream.champion.model
        self.version = model.version
        work = self.source.work(batch, batch_id)
        events, answers = self._answered(work, model)
        metrics.phase("classify", time.monotonic() - begin)
        begin = time.monotonic()
        rows = outcomes.rows(events, answers, model, batch_id)
        if self._doubtful:
            rows = self._new(rows)
        rows = self.source.first(rows)
        self._stream.table.append(rows, self._app_id, batch_id)
        self._last = batch_id
        metrics.phase("commit", time.monotonic() - begin)
        metrics.count(rows, model)
        metrics.compare(answers, model)
        try:
            self._stream.on_rows(rows)
        except Exception as error:  # the rows are committed, whoever cannot show them
            log.warning("rows could not be shown: %s", error)
        return work, rows

    def _new(self, rows: pa.Table) -> pa.Table:
        """Leaves out what a crash, or a new checkpoint, made the source tell once more.

        It tells them one after the other, so that a micro-batch without any is the last.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        known = self._stream.table.known(rows["event_id"], rows["date"])
        self._doubtful = bool(known)
        if not known:
            return rows
        return rows.filter(pc.invert(pc.is_in(rows["event_id"], pa.array(sorted(known)))))

    def _answered(self, work: Work, model: ServedModel) -> tuple[pa.Table, pa.Table]:
        """The events of a micro-batch, and their answers in the same order."""
        from sightstream.scoring import udf
        from streaming.folder.manifests import EVENT

        self._stream.session.sparkContext.setLocalProperty(udf.TOLD, work.told())
        try:
            found = self._planned(work.tasks, model).toArrow()
        except Exception as error:
            if self._stream.stopping.is_set() or not self._query or not self._query.isActive:
                raise
            if not self.source.check():
                raise
            log.error("a micro-batch failed, and is run again in isolation: %s", _reason(error))
            return self._isolated(work, model)
        events = udf.unpacked(found["events"], EVENT)
        return events, udf.unpacked(found["answers"], udf.ANSWER)

    def _planned(self, tasks: DataFrame, model: ServedModel) -> DataFrame:
        """The answers to tasks: what Spark has planned before, it runs in half the time."""
        broadcast = self._stream.broadcast(model)
        known, planned = self._plans.get(tasks, (None, tasks))
        if known is not broadcast:
            planned = self._stream.applied(broadcast, tasks, self.source.read)
            self._plans[tasks] = broadcast, planned
        return planned

    def _isolated(self, work: Work, model: ServedModel) -> tuple[pa.Table, pa.Table]:
        import pandas as pd
        import pyarrow as pa

        from sightstream.scoring import retry, udf
        from streaming.folder.manifests import EVENT

        settings = self._stream.settings
        events, told = [EVENT.empty_table()], work.told()

        def images() -> Iterator[Image | None]:
            # One partition at a time is on the driver, whatever the images weigh.
            for row in work.tasks.toLocalIterator():
                for piece, found in self.source.read(pd.DataFrame([row.asDict()]), told):
                    events.append(piece)
                    yield from found

        found = retry.classify(images(), model, settings.limits, settings.top_k)
        answers = udf.table(list(found))
        return pa.concat_tables(events), answers


@contextmanager
def running(settings: Settings, on_rows: OnRows) -> Iterator[Stream]:
    """Starts all parts of the stream but the query; ends them in order, whatever happens.

    Args:
        settings: the home folder, the model, Spark, the limits and the endpoint.
        on_rows: called with the rows of each committed micro-batch.

    Raises:
        SightstreamError: of the kind that says what is to be mended.
    """
    from streaming.folder import source as sources

    figures = Metrics()
    with ExitStack() as stack, ThreadPoolExecutor(1) as beside:
        stack.enter_context(lock.held(settings.root))
        shutil.rmtree(spark.scratch_folder(settings, "run"), ignore_errors=True)
        stack.callback(figures.serve(settings.metrics_host, settings.metrics_port))
        registry = Registry(settings)
        if not registry.exists:
            raise ModelNotFoundError(
                f"the registry {registry.uri} is empty; train a model with: sightstream train"
            )
        # What is wrong with a source is told before anything is started.
        table = Predictions(settings.predictions)
        inputs = sources.of(settings, table, figures)
        for each in inputs:
            checkpoint.require_match(each.checkpoint, settings.predictions)
        # MLflow's import and Spark's start take seconds each.
        champion = beside.submit(Champion, settings, registry, figures.reloaded)
        session = spark.start(settings, "run")
        stack.callback(spark.stop, session)
        stream = Stream(settings, session, champion.result(), figures, table, inputs, on_rows)
        listen(session, figures)
        stop = Event()
        stack.callback(stop.set)
        if settings.kafka_predictions_topic:
            stack.enter_context(publishing(settings))
        stack.callback(stream.stop)
        for target in (
            lambda: champion.result().watch(stop, stream.ready),
            lambda: upkeep.run(settings, stream.table, lambda: stream.idle, stop),
            lambda: gauges.watch(settings, figures, registry, session, stop),
        ):
            Thread(target=target, daemon=True).start()
        # A collection of the garbage would look at all that was imported, and hold up every thread
        # for 0.2 s. It is given back, since DuckDB reports what the end of Python leaves behind.
        gc.freeze()
        stack.callback(gc.unfreeze)
        try:
            yield stream
        except Exception as error:
            if spark.is_alive(session):
                raise
            raise StreamFailedError(
                "Spark's JVM has ended, as when it is killed or out of memory; nothing is lost: "
                f"start again; more is in {settings.logs}"
            ) from error


def _reason(error: object) -> str:
    """The line of Spark's long text that says what happened."""
    text = str(error).partition("=== Streaming Query ===")[0]
    lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1][:500] if lines else type(error).__name__
