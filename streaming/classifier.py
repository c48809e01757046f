"""The pandas UDF: a URI or an image goes in, only the answer comes out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sightstream.classify import Answer, Classifier, Image
from sightstream.imaging import Limits
from sightstream.spark import prepare_worker

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark import Broadcast
    from pyspark.sql import Column

    from sightstream.models import ServedModel

ANSWER = (
    "error_code string, error_detail string, classes array<int>, scores array<float>, "
    "format string, width int, height int, bytes long, decode_ms float, predict_ms float, "
    "brightness float, contrast float, sharpness float"
)
"""The fields of `Answer` as Spark names them, in their order."""

_FIELDS = tuple(vars(Answer()))

KEPT = 2
"""The versions that a worker keeps loaded: the current one, and the one before."""

_loaded: dict[tuple[str, int], Classifier] = {}


Locate = Callable[[str], Image]
"""From the URI of an image to what a `Classifier` takes; runs in the workers."""


def classify(
    model: Broadcast[ServedModel], limits: Limits, top_k: int, locate: Locate
) -> Callable[[Column, Column], Column]:
    """A pandas UDF from images to their `ANSWER`s: from the content, or where it is null the URI.

    A null URI stays unanswered. A streaming plan pickles its UDF once, so that each model version
    needs one of its own.
    """
    import pandas as pd
    from pyspark.sql.functions import pandas_udf

    key = (model.value.name, model.value.version)

    def answer(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        prepare_worker()
        classifier = _classifier(key, model, limits, top_k)
        for uris, contents in batches:
            pairs = [pair for pair in zip(uris, contents, strict=True) if pair[0] is not None]
            answers = iter(classifier([locate(u) if c is None else c for u, c in pairs]))
            rows = [Answer() if uri is None else next(answers) for uri in uris]
            yield pd.DataFrame({name: [getattr(row, name) for row in rows] for name in _FIELDS})

    answer.__annotations__ = {
        "batches": Iterator[tuple[pd.Series, pd.Series]], "return": Iterator[pd.DataFrame]
    }  # fmt: skip
    return pandas_udf(answer, ANSWER)  # type: ignore[no-any-return]


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


def arrow_type() -> pa.DataType:
    """`ANSWER` as Arrow."""
    from pyspark.sql.pandas.types import to_arrow_type
    from pyspark.sql.types import StructType

    return to_arrow_type(StructType.fromDDL(ANSWER))
