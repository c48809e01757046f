"""A stream without Spark: a source, workers and a table in memory, and a loop that drives them."""

import json
from collections import Counter
from datetime import date
from threading import Event
from types import SimpleNamespace

import pyarrow as pa

from sightstream.scoring.classifier import Answer
from sightstream.scoring.udf import table as answers_of
from sightstream.tables.schema import EVENT
from streaming.job import Stream
from streaming.micro_batch import MicroBatches
from streaming.observe.metrics import Metrics
from streaming.query import Query
from streaming.source import Work

MODEL = SimpleNamespace(name="leaf", version=1, labels=("oak", "elm"), reference=None)
NOON = 1_763_726_400.0


class Crash(BaseException):
    """The end of the process; no `except Exception` may outlive it."""


class Source:
    """Events under ids; a micro-batch is a range of them."""

    name = "folder"
    left = {}  # noqa: RUF012

    def __init__(self, checkpoint, ids):
        self.checkpoint = checkpoint
        self.ids = list(ids)
        self.there = True
        self.done_images = 0

    @property
    def behind(self):
        return len(self.ids) - self.done_images

    def work(self, batch, batch_id):
        return Work(len(batch), batch)

    def first(self, rows):
        return rows

    def done(self, batch_id, images, rows):
        self.done_images += images

    def drain(self):
        return len(self.ids)

    def watch(self, stop):
        self.watched = stop

    def changed(self):
        return False

    def check(self):
        return self.there

    def read(self, ids):
        columns = [ids, [self.name] * len(ids), ids, ids, [NOON] * len(ids), [9] * len(ids)]
        empty = [None] * len(ids)
        return pa.table(dict(zip(EVENT.names, [*columns, empty, empty], strict=True)), EVENT)


class Workers:
    """Every image is an oak, unless its id asks for a failure."""

    def __init__(self):
        self.loaded = []
        self.alone = 0

    def load(self, model):
        self.loaded.append(model)

    def answers(self, work, model, source):
        if any("kills" in each for each in work.tasks):
            raise RuntimeError("a worker ended")
        return self._classified(work, source)

    def isolated(self, work, model, source):
        self.alone += 1
        return self._classified(work, source)

    def _classified(self, work, source):
        oak = Answer(classes=[0], scores=[1.0])
        lost = Answer("crashed", "It ended the process that classified it.")
        found = [lost if "kills" in each else oak for each in work.tasks]
        return source.read(work.tasks), answers_of(found)


class Table:
    """A predictions table that is a list of rows."""

    def __init__(self):
        self.rows = []
        self.batches = {}

    def last_batch(self, app_id):
        return self.batches.get(app_id)

    def known(self, event_ids, dates):
        assert {type(each) for each in dates.to_pylist()} <= {date}
        return {row["event_id"] for row in self.rows} & set(event_ids.to_pylist())

    def append(self, rows, app_id, batch_id):
        if self.batches.get(app_id, -1) < batch_id:  # as Delta does
            self.rows += rows.to_pylist()
            self.batches[app_id] = batch_id
        return rows

    def maintain(self, *, quiet):
        return False

    @property
    def counts(self):
        return Counter(row["event_id"] for row in self.rows)


class Checkpoint:
    """What Spark keeps: the micro-batches that were planned, and how many were committed."""

    def __init__(self, folder, size=2, name="app"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metadata").write_text(json.dumps({"id": name}))
        self._done = folder / "commits"
        self._done.mkdir(exist_ok=True)
        self._size = size
        self._planned = []
        self._commits = 0

    def start(self, source, on_batch):
        return SparkQuery(self, source, on_batch)

    def next(self, source):
        if self._commits == len(self._planned):
            start = sum(map(len, self._planned))
            if start == len(source.ids):
                return None
            self._planned.append(source.ids[start : start + self._size])
        return self._planned[self._commits], self._commits

    def commit(self):
        (self._done / str(self._commits)).touch()
        self._commits += 1


class SparkQuery:
    """A streaming query whose micro-batches run when `step` is called."""

    def __init__(self, checkpoint, source, on_batch):
        self._checkpoint = checkpoint
        self._source = source
        self._on_batch = on_batch
        self._error = None
        self.isActive = True
        self.triggers = iter(())

    def step(self):
        """Runs the next micro-batch; returns whether there was one."""
        if not self.isActive or not (planned := self._checkpoint.next(self._source)):
            return False
        try:
            self._on_batch(*planned)
            self._checkpoint.commit()
        except Exception as error:
            self._error, self.isActive = error, False
            return False
        return True

    @property
    def status(self):
        return {"isTriggerActive": next(self.triggers, False)}

    def exception(self):
        return self._error

    def stop(self):
        self.isActive = False


class Running:
    """One start of a stream, whose parts a test may replace before it runs."""

    def __init__(self, source, table, checkpoint, shown=None):
        self.source, self.table, self.checkpoint = source, table, checkpoint
        self.workers, self.metrics, self.stopping = Workers(), Metrics(), Event()
        self.champion = SimpleNamespace(model=MODEL)
        self.shown = [] if shown is None else shown
        self.restarts = 0
        batches = MicroBatches(
            source, table, self.champion, self.workers, self.metrics, lambda r: self.show(r)
        )
        self.query = Query(source, batches, self._start, self.stopping, self._restarted, "the logs")
        self.stream = Stream(
            [self.query], self.champion, self.workers, table, self.metrics, self.stopping,
            lambda: True,
        )  # fmt: skip

    def show(self, rows):
        self.shown += rows["event_id"].to_pylist()

    def run(self):
        """Starts the query, and runs micro-batches until none is left or one fails."""
        self.query.start()
        self.steps()
        return self

    def steps(self):
        while self.spark.step():
            pass

    def _start(self, on_batch):
        self.spark = self.checkpoint.start(self.source, on_batch)
        return self.spark

    def _restarted(self):
        self.restarts += 1


class Sink:
    """Keeps what a listener records."""

    def __init__(self):
        self.phases, self.idles = {}, 0

    def phase(self, name, seconds):
        self.phases[name] = seconds

    def idle(self):
        self.idles += 1
