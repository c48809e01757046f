"""Results of images as anybody's rows hold them: what `api` does, in the driver and in workers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.images.limits import INT32, Limits, Rejected, require_integer
from sightstream.images.store import Image, Store
from sightstream.models.version import ServedModel
from sightstream.scoring.udf import Answering, Pickled, Shipped, identity
from sightstream.tables.rows import results
from sightstream.tables.schema import RESULT, RESULT_COLUMNS, ddl

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

_PIECE = 256
"""Images that a worker holds as Python objects, of an Arrow batch of any size."""

_ANSWER = "__sightstream_answer"

_broadcasts: WeakValueDictionary[tuple[str, str], Shipped] = WeakValueDictionary()
"""Models by application and identity, as long as a function uses them."""


def of_images(
    images: Iterable[Any], model: ServedModel, limits: Limits, top_k: int
) -> list[dict[str, Any]]:
    """Classify images in this process; see `api.predict`."""
    _require_model(model)
    results_of = _Results(Pickled(model), limits, top_k)
    left, found = iter(images), list[dict[str, Any]]()
    while piece := list(islice(left, _PIECE)):
        found += results_of(piece).to_pylist()
    return found


def of_rows(df: DataFrame, model: ServedModel, image: str, limits: Limits, top_k: int) -> DataFrame:
    """Add answers to the rows of a DataFrame; see `api.classify`."""
    if not hasattr(df, "schema"):
        raise TypeError(
            f"classify takes a DataFrame of Spark, and not {type(df)}; for images in this process, "
            "write: predict([image, ...], model)"
        )
    if not isinstance(image, str):
        raise TypeError(f"image is the name of a column, and not {type(image)}")
    _require_columns(df, image)
    # Spark copies what is deterministic into filters and projections, and would classify twice.
    answer = udf(df.sparkSession, model, limits, top_k).asNondeterministic()
    quoted = f"`{image.replace('`', '``')}`"
    return df.withColumn(_ANSWER, answer(quoted)).select("*", f"{_ANSWER}.*").drop(_ANSWER)


def udf(session: SparkSession, model: ServedModel, limits: Limits, top_k: int) -> Any:
    """Make a function of Spark for a session; see `api.classify_udf`."""
    from pyspark.sql import functions

    results_of = _Results(_shipped(session, model), limits, top_k)

    def over_arrow(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
        results_of.answering.prepare_worker()
        for images in batches:
            yield results_of.batch(images)

    if hasattr(functions, "arrow_udf"):  # from Spark 4.1 on
        return functions.arrow_udf(over_arrow, ddl(RESULT_COLUMNS))
    return functions.pandas_udf(_over_pandas(results_of), ddl(RESULT_COLUMNS))


def _require_columns(df: DataFrame, image: str) -> None:
    types = {field.name: field.dataType.typeName() for field in df.schema.fields}
    if image not in types:
        raise InputError(f"there is no column {image!r} among {', '.join(types)}; set image=...")
    if not types[image].startswith(("binary", "string", "varchar", "char")):
        raise InputError(
            f"the column {image!r} is of type {types[image]}; images are binary (their content) or "
            "string (their paths or uris)"
        )
    added = set(RESULT.names)
    if clash := [name for name in types if name.lower() in added]:
        names = ", ".join(map(repr, clash))
        raise InputError(
            f"the rows already have the column(s) {names}, which classify adds; drop them first: "
            f"df.drop({names}), or rename them: df.withColumnRenamed({clash[0]!r}, ...)"
        )


def _require_model(model: object) -> None:
    if not isinstance(model, ServedModel):
        raise TypeError(f"{model!r} is no loaded model; write: load_model(...)")


def _shipped(session: SparkSession, model: ServedModel) -> Shipped:
    """Broadcast a model to the workers of a session, once for all functions that use it."""
    from pyspark.sql.utils import is_remote

    _require_model(model)
    if is_remote():  # Spark Connect has no broadcasts
        return Pickled(model)
    context = session.sparkContext
    key = context.applicationId, identity(model)
    shipped = _broadcasts.get(key) or context.broadcast(model)
    return _broadcasts.setdefault(key, shipped)


def _over_pandas(results_of: _Results) -> Any:
    import pandas as pd

    def over_pandas(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        results_of.answering.prepare_worker()
        for images in batches:
            table = pa.Table.from_struct_array(results_of.batch(images))
            yield table.to_pandas(integer_object_nulls=True)

    # Spark reads the types of the arguments, which are no names of this module.
    over_pandas.__annotations__ = {
        "batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame],
    }  # fmt: skip
    return over_pandas


class _Results:
    """Makes results from images as anybody's rows hold them; pickled to the workers."""

    def __init__(self, model: Shipped, limits: Limits, top_k: int) -> None:
        require_integer("top_k", top_k, INT32)
        self.answering = Answering(model, limits, top_k)
        self._store = Store(None, limits)

    def __call__(self, images: Iterable[Any]) -> pa.Table:
        """Classify a few images; return the columns of `RESULT`."""
        answers = self.answering([self._image(image) for image in images])
        return results(answers, self.answering.classifier.model)

    def batch(self, images: pa.Array | pd.Series) -> pa.StructArray:
        """Classify an Arrow batch, which may be large, piece by piece."""
        pieces = [RESULT.empty_table()]
        for start in range(0, len(images), _PIECE):
            piece = images[start : start + _PIECE]
            pieces.append(self(piece.to_pylist() if isinstance(piece, pa.Array) else piece))
        table = pa.concat_tables(pieces).combine_chunks()
        return table.to_struct_array().combine_chunks()

    def _image(self, value: Any) -> Image:
        if value is None:
            return Rejected("empty", "There is no image: the value is null.")
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, (str, os.PathLike)):
            return self._store(os.fspath(value))
        raise TypeError(
            f"an image is its content, its path or its uri, and not {value!r} of {type(value)}"
        )
