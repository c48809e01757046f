"""The pandas UDF: a URI or an image goes in, only the answer comes out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from sightstream.classify import Answer, Classifier, Image
from sightstream.imaging import Limits
from sightstream.spark import prepare_worker

if TYPE_CHECKING:
    import pandas as pd
    from pyspark import Broadcast
    from pyspark.sql import Column

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

KEPT = 2
"""The versions that a worker keeps loaded: the current one, and the one before."""

_loaded: dict[tuple[str, int], Classifier] = {}


Locate = Callable[[str], Image]
"""From the URI of an image to what a `Classifier` takes; runs in the workers."""


def classify(
    model: Broadcast[ServedModel], limits: Limits, top_k: int, locate: Locate
) -> Callable[[Column, Column], Column]:
    """A pandas UDF from images to what `unpacked` reads.

    It takes an image's content, or where that is null its URI; a null URI stays unanswered. A
    streaming plan pickles its UDF once, so that each model version needs one of its own.
    """
    import pandas as pd
    from pyspark.sql.functions import pandas_udf

    key = (model.value.name, model.value.version)

    def answer(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.Series]:
        prepare_worker()
        classifier = _classifier(key, model, limits, top_k)
        for uris, contents in batches:
            pairs = [pair for pair in zip(uris, contents, strict=True) if pair[0] is not None]
            answers = iter(classifier([locate(u) if c is None else c for u, c in pairs]))
            rows = [Answer() if uri is None else next(answers) for uri in uris]
            # All of them in the first row: Spark would take every field of every row apart and
            # put it together again, twice.
            column = [packed(table(rows)), *[None] * (len(rows) - 1)] if rows else []
            yield pd.Series(column, dtype=object)

    answer.__annotations__ = {
        "batches": Iterator[tuple[pd.Series, pd.Series]], "return": Iterator[pd.Series]
    }  # fmt: skip
    return pandas_udf(answer, "binary")  # type: ignore[no-any-return]


def table(answers: Sequence[Answer]) -> pa.Table:
    """Answers as Arrow."""
    columns = {name: [getattr(each, name) for each in answers] for name in ANSWER.names}
    return pa.table(columns, ANSWER)


def packed(answers: pa.Table) -> bytes:
    """Answers as the bytes of one Arrow record batch, without its schema, which is `ANSWER`."""
    (batch,) = answers.combine_chunks().to_batches()
    return bytes(batch.serialize())


def unpacked(answers: pa.ChunkedArray) -> pa.Table:
    """The answers that a column of the UDF holds, one for each of its rows, in their order."""
    batches = [pa.ipc.read_record_batch(one.as_buffer(), ANSWER) for one in answers.drop_null()]
    return pa.Table.from_batches(batches, ANSWER)


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
