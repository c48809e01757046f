"""The pandas UDF: a URI or an image goes in, only the answer comes out, packed piece by piece."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from sightstream.classify import Answer, Classifier, Image
from sightstream.events import SCHEMA
from sightstream.imaging import Limits
from sightstream.spark import prepare_worker, release_memory

if TYPE_CHECKING:
    import pandas as pd
    from pyspark import Broadcast

    from sightstream.models import ServedModel

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

_TYPES = {"string": pa.string(), "double": pa.float64(), "long": pa.int64()}
EVENT = pa.schema((n, _TYPES[kind]) for n, kind in (f.split() for f in SCHEMA.split(", ")))
"""The fields of an `ImageEvent` as Arrow names them."""

PACKED = "events binary, answers binary"
"""What the UDF gives for each piece: a record batch of `EVENT`, where it was given all of its
fields, and one of `ANSWER`. Spark would take every field of every row apart and put it together
again, twice.
"""

KEPT = 2
"""The versions that a worker keeps loaded: the current one, and the one before."""

_loaded: dict[tuple[str, int], Classifier] = {}


Locate = Callable[[str], Image]
"""From the URI of an image to what a `Classifier` takes; runs in the workers."""

Udf = Callable[[Iterator["pd.DataFrame"]], Iterator["pd.DataFrame"]]
"""What `mapInPandas` runs in the workers."""


def classify(model: Broadcast[ServedModel], limits: Limits, top_k: int, locate: Locate) -> Udf:
    """A pandas UDF, as `mapInPandas` takes it, from events to a row of `PACKED` for each piece.

    An image is the event's `content`, or where that is null its `uri`; an event with an
    `error_code` stays unanswered.
    """
    key = (model.value.name, model.value.version)

    def answer(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas as pd

        prepare_worker()
        classifier = _classifier(key, model, limits, top_k)
        for batch in filter(len, batches):
            fields = (batch[name] for name in ("error_code", "uri", "content"))
            images = [
                None if code is not None else locate(uri) if content is None else content
                for code, uri, content in zip(*fields, strict=True)
            ]
            found = iter(classifier([image for image in images if image is not None]))
            answers = table([Answer() if image is None else next(found) for image in images])
            events = None
            if set(EVENT.names) <= set(batch):
                events = packed(pa.Table.from_pandas(batch, EVENT, preserve_index=False))
            yield pd.DataFrame({"events": [events], "answers": [packed(answers)]})
        release_memory()

    return answer


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
