"""The pandas UDF: a task's rows go in, its events and their answers come out, packed in pieces."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from sightstream.images.decode import Limits
from sightstream.images.store import Image
from sightstream.runtime.spark import at_work
from sightstream.scoring.classifier import Answer, Classifier

if TYPE_CHECKING:
    import pandas as pd
    from pyspark import Broadcast

    from sightstream.models.version import ServedModel

ANSWER = pa.schema(
    {
        "error_code": pa.string(), "error_detail": pa.string(),
        "classes": pa.list_(pa.int32()), "scores": pa.list_(pa.float32()),
        "format": pa.string(), "width": pa.int32(), "height": pa.int32(), "bytes": pa.int64(),
        "decode_ms": pa.float32(), "predict_ms": pa.float32(),
        "brightness": pa.float32(), "contrast": pa.float32(), "sharpness": pa.float32(),
    }
)  # fmt: skip
"""The fields of `Answer` as Arrow names them."""

PACKED = "events binary, answers binary"
"""What the UDF gives for each piece: a record batch of events and one of `ANSWER`. Spark would take
every field of every row apart and put it together again, twice.
"""

KEPT = 2
"""The versions that a worker keeps loaded: the current one, and the one before."""

_loaded: dict[tuple[str, int], Classifier] = {}


Piece = tuple[pa.Table, Sequence[Image | None]]
"""Events, of `manifests.EVENT`, and the image of each; None where the event was refused."""

Read = Callable[["pd.DataFrame", str], Iterator[Piece]]
"""From the rows of a task, and what its job was told, to what they stand for; runs in workers."""

TOLD = "sightstream.told"
"""The local property by which a job tells its tasks what is theirs: what is part of a plan would
have Spark plan each job anew, which takes as long as to run it.
"""

Udf = Callable[[Iterator["pd.DataFrame"]], Iterator["pd.DataFrame"]]
"""What `mapInPandas` runs in the workers."""


def classify(model: Broadcast[ServedModel], limits: Limits, top_k: int, read: Read) -> Udf:
    """A pandas UDF, as `mapInPandas` takes it, from a source's tasks to rows of `PACKED`."""
    key = (model.value.name, model.value.version)

    def answer(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas as pd
        from pyspark import TaskContext

        with at_work():
            classifier = _classifier(key, model, limits, top_k)
            told = TaskContext.get().getLocalProperty(TOLD) or ""
            pieces = (read(rows, told) for rows in batches if len(rows))
            done = []
            for events, images in chain.from_iterable(pieces):
                found = iter(classifier([image for image in images if image is not None]))
                answers = table([Answer() if image is None else next(found) for image in images])
                done.append((packed(events), packed(answers)))
            # All at once: what Spark does with each frame takes 2 ms of a core.
            if done:
                yield pd.DataFrame(done, columns=["events", "answers"])

    return answer


def nothing(_rows: pd.DataFrame, _told: str) -> Iterator[Piece]:
    """Reads no images, for tasks that only load the model."""
    return iter(())


def table(answers: Sequence[Answer]) -> pa.Table:
    """Answers as Arrow."""
    columns = {name: [getattr(each, name) for each in answers] for name in ANSWER.names}
    return pa.table(columns, ANSWER)


def packed(rows: pa.Table) -> bytes:
    """A piece as the bytes of one Arrow record batch, without its schema."""
    (batch,) = rows.combine_chunks().to_batches()
    return bytes(batch.serialize())


def unpacked(pieces: pa.ChunkedArray, schema: pa.Schema) -> pa.Table:
    """The rows of all pieces, in their order."""
    batches = [pa.ipc.read_record_batch(piece.as_buffer(), schema) for piece in pieces]
    return pa.Table.from_batches(batches, schema)


def _classifier(
    key: tuple[str, int], model: Broadcast[ServedModel], limits: Limits, top_k: int
) -> Classifier:
    if key not in _loaded:
        _loaded[key] = Classifier(model.value, limits, top_k)
        for old in list(_loaded)[:-KEPT]:
            del _loaded[old]
        # The engine holds what it needs of the file; and Spark collects garbage after each task,
        # for which the loaded modules need not be looked at.
        del model._value
        gc.collect()
        gc.freeze()
    return _loaded[key]
