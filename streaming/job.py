"""The stream, and the one place that wires its parts and unpacks the settings for them."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from sightstream.config import Settings
from sightstream.errors import ConfigError, StreamFailedError, reason
from sightstream.models.registry import Registry
from sightstream.runtime import cluster, spark
from sightstream.tables.predictions import Predictions
from streaming import checkpoint, upkeep
from streaming.bucket.done import action
from streaming.bucket.intake import Pace
from streaming.bucket.notices import Notices
from streaming.bucket.source import BucketSource
from streaming.bucket.store import place
from streaming.champion import Champion
from streaming.folder.intake import Folders
from streaming.folder.source import Folder, held
from streaming.kafka.duplicates import Recent
from streaming.kafka.lag import topic
from streaming.kafka.object_events import event_reader
from streaming.kafka.publisher import Publisher
from streaming.kafka.source import KafkaSource
from streaming.kafka.values import opener
from streaming.lineup import Follower, Lineup
from streaming.micro_batch import MicroBatches, OnRows
from streaming.observe import probes
from streaming.observe.listener import listen
from streaming.observe.metrics import Metrics
from streaming.query import OnBatch, Query
from streaming.source import Source
from streaming.workers import Workers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming import StreamingQuery

    from sightstream.models.version import ServedModel

log = logging.getLogger(__name__)

TRIGGER_SECONDS = 0.0  # from micro-batch to micro-batch; 0: as soon as images wait


@dataclass
class Stream:
    """A running stream, made by `running`; once `stopping` is set, no micro-batch begins."""

    queries: Sequence[Query]
    champion: Champion
    workers: Workers
    table: Predictions
    metrics: Metrics
    stopping: Event
    alive: Callable[[], bool]
    lineup: Lineup = field(default_factory=Lineup)

    def __post_init__(self) -> None:
        self.metrics.of["images_behind"].set_function(lambda: self.behind)
        self.metrics.of["trigger_interval_seconds"].set(TRIGGER_SECONDS)
        model = self.champion.model
        self._expect(model)
        self.metrics.of["model_version"].labels(model.name).set(model.version)

    @property
    def behind(self) -> int:
        """Images that have arrived and have no row yet."""
        return sum(query.source.behind for query in self.queries)

    @property
    def images(self) -> int:
        """Number of images of the micro-batches since the start, repeats among them."""
        return sum(query.batches.images for query in self.queries)

    @property
    def repeats(self) -> int:
        """Number of images that have a row already, and get no second one."""
        return sum(query.batches.repeats for query in self.queries)

    @property
    def idle(self) -> float:
        """Seconds since the last micro-batch; 0 while images wait for one."""
        latest = max(query.progress for query in self.queries)
        return 0.0 if self.behind > 0 else time.monotonic() - latest

    def start(self) -> None:
        """Start the queries, and load the model in the workers meanwhile."""
        Thread(target=self._warm_up, daemon=True).start()
        for query in self.queries:
            query.start()

    def watch(self, stop: Event) -> None:
        """Take what arrives from now on, until `stop` is set."""
        for query in self.queries:
            query.source.watch(stop)

    def drain(self) -> int:
        """Take what is there, and return the number of images."""
        return sum(query.source.drain() for query in self.queries)

    @property
    def left(self) -> dict[str, str]:
        """What `drain` could not take, by name, with the reason."""
        return {name: why for query in self.queries for name, why in query.source.left.items()}

    def tend(self) -> None:
        """Restart queries that failed; to be called several times a second.

        Raises:
            StreamFailedError: a query failed `query.FAILURES` times without a micro-batch between.
            SightstreamError: a source needs a person.
        """
        for query in self.queries:
            query.tend()

    def finish(self, stop: Event, look: Callable[[], object] = lambda: None) -> None:
        """Classify all that was taken, and `stop`; earlier if `stop` is set. See also `tend`.

        No micro-batch is under way afterwards. `look` is called several times a second.
        """
        while self.behind > 0 and not stop.wait(0.02):
            self.tend()
            look()
        self.stop()
        self.table.maintain(quiet=False)

    def stop(self) -> None:
        """Let the current micro-batches end, and begin no other."""
        self.stopping.set()
        if self.alive():
            for query in self.queries:
                query.stop()

    def ready(self, model: ServedModel) -> None:
        """Load a version in the workers, ahead of the first micro-batch that it answers for."""
        others = self.lineup.beside(model)
        self.workers.load(model, *([others] if others else []))
        self._expect(model)

    def _warm_up(self) -> None:
        try:
            self.ready(self.champion.model)
        except Exception as error:  # the first micro-batch fails for the same reason, and logs it
            if not self.stopping.is_set():
                log.info("the model was not loaded ahead of its first images: %s", reason(error))

    def _expect(self, model: ServedModel) -> None:
        sources = [query.source.name for query in self.queries]
        self.metrics.expect(sources, model, self.lineup.beside(model))


@contextmanager
def running(
    settings: Settings, on_rows: OnRows, starting: Future[SparkSession]
) -> Iterator[Stream]:
    """Start all parts of the stream but its queries; end them in order, whatever happens.

    The session is that of `streaming.start`, which holds the home folder, too.

    Raises:
        SightstreamError: of the kind that says what to correct.
    """
    metrics = Metrics()
    with ExitStack() as stack, ThreadPoolExecutor(1) as beside:
        stack.callback(metrics.serve(settings.metrics_host, settings.metrics_port))
        registry = Registry(settings.registry_address)
        # MLflow's import takes a second.
        champion = beside.submit(
            Champion, settings.model, settings.engine, registry,
            lambda result: metrics.of["model_reloads"].labels(result).inc(), settings.device,
        )  # fmt: skip
        followers = beside.submit(_followers, settings, registry, metrics)
        table = Predictions(settings.predictions, settings.history)
        sources = _sources(settings, table, metrics)
        session = starting.result()
        spark.make_interruptible(session.sparkContext)
        first, lineup = champion.result(), Lineup(followers.result(), settings.canary)
        stream = _stream(settings, session, first, sources, table, metrics, on_rows, lineup)
        listen(session, metrics)
        stop = Event()
        stack.callback(stop.set)
        if name := settings.kafka_predictions_topic:
            position = settings.root / "checkpoints" / "predictions-topic.json"
            publisher = Publisher(settings.kafka, name, table.path, position)
            stack.enter_context(publisher.running())
        stack.callback(stream.stop)
        # Threads that still use Spark, such as to load the model ahead, end with it.
        stack.callback(logging.getLogger("py4j").setLevel, logging.CRITICAL)
        retention = timedelta(days=settings.retention_days)
        waiting = partial(held, settings.manifests, settings.checkpoint(Folder.name))
        expire = partial(upkeep.expire, settings.images, retention, waiting)
        looks = _probes(settings, table, registry, stream.champion.model.name, session)
        for target in (
            lambda: champion.result().watch(stop, stream.ready),
            lambda: lineup.watch(stop, lambda: stream.ready(stream.champion.model)),
            lambda: upkeep.run(table, expire, lambda: stream.idle, stop),
            lambda: probes.watch(metrics.of, looks, stop),
        ):
            Thread(target=target, daemon=True).start()
        # A collection of the garbage would look at all that was imported, and hold up every thread
        # for 0.2 s. It is given back, since DuckDB reports what the end of Python leaves behind.
        gc.freeze()
        stack.callback(gc.unfreeze)
        with _end_of_spark(session, settings.logs):
            yield stream


def _sources(settings: Settings, table: Predictions, metrics: Metrics) -> list[Source]:
    sources: list[Source] = []
    if "folder" in settings.source:
        sources.append(_inbox(settings, metrics))
    if "kafka" in settings.source:
        reader = None
        if settings.kafka_value == "s3-event":
            reader = event_reader(settings.kafka_uri_prefixes, settings.limits)
        messages = KafkaSource(
            topic(settings), Recent(table, KafkaSource.name), metrics, settings.limits,
            settings.kafka_uri_prefixes, settings.images_per_batch, settings.kafka_max_offsets,
            opener(settings.kafka_value), reader,
        )  # fmt: skip
        sources.append(messages)
    for each in sources:
        checkpoint.begin_anew(each.checkpoint)
        checkpoint.require_match(each.checkpoint, settings.predictions)
        # Long before the first micro-batch, so that the home it was copied from knows.
        if (each.checkpoint / "metadata").exists():
            checkpoint.own(each.checkpoint, table)
    return sources


def _inbox(settings: Settings, metrics: Metrics) -> Source:
    scratch = spark.scratch_folder(settings.root, "run")
    turns = scratch if cluster.is_local(settings.master) else None
    if not settings.inbox_uri:
        if settings.inbox_topic:
            raise ConfigError("inbox_topic tells of the objects of a bucket: set inbox_uri too")
        return Folder(
            Folders(settings.inbox, settings.images, settings.manifests, settings.stuck),
            settings.checkpoint(Folder.name), settings.acceptance, settings.images_per_batch,
            turns, metrics.of["arrived_images"].labels(Folder.name).inc,
        )  # fmt: skip
    inbox, notices = place(settings.inbox_uri), None
    if name := settings.inbox_topic:
        bucket = inbox.bucket.root.partition("://")[2].strip("/")
        notices = Notices(settings.kafka, name, bucket)
    return BucketSource(
        inbox, settings.bucket, settings.checkpoint(BucketSource.name),
        Pace(settings.inbox_look_seconds, settings.inbox_list_seconds), settings.ignore,
        settings.limits, settings.images_per_batch, turns,
        metrics.of["arrived_images"].labels(BucketSource.name).inc, settings.stuck, notices,
        action(settings.inbox_done, inbox),
    )  # fmt: skip


def _stream(
    settings: Settings, session: SparkSession, champion: Champion, sources: Sequence[Source],
    table: Predictions, metrics: Metrics, on_rows: OnRows, lineup: Lineup,
) -> Stream:  # fmt: skip
    workers, stopping = Workers(session, settings.limits, settings.top_k), Event()
    queries, restarted = [], metrics.of["query_restarts"].inc
    for source in sources:
        batches = MicroBatches(source, table, champion, workers, metrics, on_rows, lineup)
        start = partial(_started, session, source)
        queries.append(Query(source, batches, start, stopping, restarted, settings.logs))
    alive = partial(spark.is_alive, session)
    return Stream(queries, champion, workers, table, metrics, stopping, alive, lineup)


def _followers(settings: Settings, registry: Registry, metrics: Metrics) -> list[Follower]:
    def on_reload(result: str) -> None:
        metrics.of["model_reloads"].labels(result).inc()

    first, asked = registry.chosen(settings.model), (settings.shadow, *settings.also)
    for which in asked:
        if which in {first, f"{first}@champion"}:
            raise ConfigError(
                f"{which} answers first anyway; another version of it answers beside it under its "
                f"alias, such as {first}@challenger"
            )
    return [
        Follower(
            which, settings.engine, registry, on_reload, settings.device, is_shadow=not place
        )
        for place, which in enumerate(asked) if which
    ]  # fmt: skip


def _started(session: SparkSession, source: Source, on_batch: OnBatch) -> StreamingQuery:
    # Its jobs share the cores with those of other queries, instead of waiting behind them.
    session.sparkContext.setLocalProperty("spark.scheduler.pool", source.name)
    spark.renew_sockets(session)
    writer = source.events(session).writeStream.foreachBatch(on_batch)
    writer = writer.queryName(source.name).option("checkpointLocation", str(source.checkpoint))
    return writer.trigger(processingTime=f"{TRIGGER_SECONDS} seconds").start()


def _probes(
    settings: Settings, table: Predictions, registry: Registry, model: str, session: SparkSession
) -> list[Callable[[], probes.Figures]]:
    return [
        partial(probes.disk, settings.root),
        partial(probes.stuck, settings.stuck, settings.inbox),
        partial(
            probes.images, settings.inbox, settings.ignore, settings.images, settings.retention_days
        ),
        probes.Table(settings.predictions),
        partial(probes.copies, table),
        probes.machine,
        partial(probes.registered, registry, model),
        partial(probes.spark, session),
    ]


@contextmanager
def _end_of_spark(session: SparkSession, logs: Path) -> Iterator[None]:
    """Raise one clear error for all that fails because Spark's JVM has ended."""
    try:
        yield
    except Exception as error:
        if spark.is_alive(session):
            raise
        raise StreamFailedError(
            "Spark's JVM has ended, as when it is killed or out of memory; nothing is lost: "
            f"start again; details are in {logs}"
        ) from error
