"""A model applied to images in Spark's workers, for the stream, the library and trainings."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from sightstream.images.frames import count
from sightstream.images.limits import Limits
from sightstream.images.store import Image, content
from sightstream.models.version import ServedModel
from sightstream.runtime.worker import at_work, end_in
from sightstream.scoring import retry
from sightstream.scoring.beside import Beside, Seat
from sightstream.scoring.child import LOADING
from sightstream.scoring.classifier import Answer, Classifier
from sightstream.scoring.framed import Images, Piece, framed
from sightstream.tables.schema import ANSWER

if TYPE_CHECKING:
    import pandas as pd
    from pyspark import Broadcast

PACKED = "events binary, answers binary, others binary"
"""Columns of `packed_answers`: for each piece, a record batch of events, one of answers, and one of
what other models answered, if any. Spark would convert every field of every row twice.
"""

KEPT = 4
"""Models that a process keeps loaded: those in use, and the one before a swap."""

ASSIGNMENT = "sightstream.assignment"
"""Local property that passes a job's assignment to its tasks; as a part of the plan it would cost
the planning of each job, which takes as long as running it.
"""

LEFT_OUT = "sightstream.left_out"
"""Local property with the numbers of the other models that rest in this job."""

_loaded: dict[tuple[str, Limits, int], Classifier] = {}

Read = Callable[["pd.DataFrame", str], Iterator[Piece]]
"""Reader that runs in the workers, from a task's rows and its job's assignment to their images."""

Udf = Callable[[Iterator["pd.DataFrame"]], Iterator["pd.DataFrame"]]
"""Function of `DataFrame.mapInPandas`."""


@dataclass(frozen=True)
class Pickled:
    """A model that is pickled with the function that needs it, where nothing can be broadcast."""

    value: ServedModel


Shipped: TypeAlias = "Broadcast[ServedModel] | Pickled"
"""A model for other processes."""


def identity(model: ServedModel) -> str:
    """Return a digest of all that answers depend on: models of one name and number may differ."""
    facts = (
        model.name, model.version, model.engine, model.device, model.labels, model.preprocessing
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode() + b"\0" + model.content).hexdigest()


class Answering:
    """A model that is pickled to other processes, and loaded there by the first call.

    A process loads each model once and keeps the last `KEPT` of them, across tasks and queries.
    """

    def __init__(
        self, model: Shipped, limits: Limits, top_k: int,
        others: Sequence[tuple[Shipped, bool]] = (),
    ) -> None:  # fmt: skip
        """Remember a model, and others that answer beside it; True is with a shadow."""
        self._model = model
        self._seats = [Seat(identity(each.value), each, shadow) for each, shadow in others]
        self._limits = limits
        self._top_k = top_k
        self._key = identity(model.value), limits, top_k

    def __call__(self, images: Sequence[Image | None]) -> pa.Table:
        """Return the columns of `ANSWER`, a row for each image; nulls for None."""
        return table(self.answers(images))

    def answers(self, images: Images, others: Beside | None = None) -> list[Answer]:
        """Return an answer for each image, an empty one for None; the others get them too."""
        found = iter(self.classifier([image for image in images if image is not None], others))
        return [Answer() if image is None else next(found) for image in images]

    def beside(self, left_out: str, alone: bool = False) -> Beside | None:
        """Start the other models, if there are any, for one task; `alone`, none is asked."""
        if not self._seats:
            return None
        numbers = range(len(self._seats)) if alone else json.loads(left_out or "[]")
        resting = {self._seats[number].key for number in numbers}
        return Beside(self._seats, resting, self._limits, self._top_k)

    def answered(
        self, pieces: Iterator[Piece], others: Beside | None
    ) -> Iterator[tuple[pa.Table, list[Answer]]]:
        """Yield the events of pieces and their answers, with the model in this process."""
        self.prepare_worker()
        for events, images in self.framed(pieces):
            yield events, self.answers(images, others)

    def alone(self, pieces: Iterator[Piece]) -> Iterator[tuple[pa.Table, list[Answer]]]:
        """Yield the same, image by image from a process that each may end; see `retry`."""
        return retry.answered(pieces, self._model.value, self._limits, self._top_k)

    def framed(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Give each frame an event where the model wants that."""
        if self.classifier.model.preprocessing.frame != "each":
            return pieces
        return framed(pieces, self._count)

    def _count(self, image: Image) -> int:
        data = content(image, self._limits)
        end_in(self._limits.seconds)
        frames = count(data, self._limits)
        end_in(0)
        return frames

    @property
    def classifier(self) -> Classifier:
        """The model, loaded; a worker that takes too long for it is ended."""
        if self._key not in _loaded:
            end_in(LOADING)
            _loaded[self._key] = Classifier(self._model.value, self._limits, self._top_k)
            end_in(0)
            for old in list(_loaded)[:-KEPT]:
                del _loaded[old]
        return _loaded[self._key]

    def prepare_worker(self) -> None:
        """Load the model in a Spark worker."""
        if self._key in _loaded:
            return
        self.classifier.try_out()
        # Spark collects garbage after each task: over the loaded modules, 0.1 s and more.
        gc.collect()
        gc.freeze()


def packed_answers(answering: Answering, read: Read) -> Udf:
    """Make a function for `mapInPandas` from a source's tasks to rows of `PACKED`."""

    def answer(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas as pd
        from pyspark import TaskContext

        with at_work():
            job = TaskContext.get()
            # A task that failed may have an image that ends its worker, or never ends.
            alone = job.attemptNumber() > 0 and read is not nothing
            others = answering.beside(job.getLocalProperty(LEFT_OUT) or "", alone)
            if others and read is nothing:
                answering.prepare_worker()
                others.ready()
            assignment = job.getLocalProperty(ASSIGNMENT) or ""
            pieces = chain.from_iterable(read(rows, assignment) for rows in batches if len(rows))
            done = []
            found = answering.alone(pieces) if alone else answering.answered(pieces, others)
            for events, answers in found:
                more = packed(others.table(answers)) if others else b""
                done.append((packed(events), packed(table(answers)), more))
            # All at once: each frame costs Spark 2 ms of a core.
            if done:
                yield pd.DataFrame(done, columns=["events", "answers", "others"])

    return answer


def nothing(_rows: pd.DataFrame, _assignment: str) -> Iterator[Piece]:
    """Read no images, in tasks that only load the model."""
    return iter(())


def table(answers: Sequence[Answer]) -> pa.Table:
    """Return answers as a table of `ANSWER`."""
    columns = {name: [getattr(each, name) for each in answers] for name in ANSWER.names}
    return pa.table(columns, ANSWER)


def packed(rows: pa.Table) -> bytes:
    """Serialize a table as one Arrow record batch, without its schema."""
    (batch,) = rows.combine_chunks().to_batches()
    return bytes(batch.serialize())


def unpacked(pieces: Iterable[pa.Scalar], schema: pa.Schema) -> pa.Table:
    """Read the rows of all pieces, in their order."""
    batches = [pa.ipc.read_record_batch(piece.as_buffer(), schema) for piece in pieces]
    return pa.Table.from_batches(batches, schema)
