"""The public functions: models applied to anybody's images, with Spark or without."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.images.decode import DEFAULT_LIMITS, Limits, Rejected
from sightstream.images.store import Image, Store
from sightstream.models.version import ServedModel
from sightstream.scoring.udf import Answering, Pickled, Shipped, identity
from sightstream.tables.rows import results
from sightstream.tables.schema import RESULT, RESULT_COLUMNS, ddl

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

TOP_K = 3
"""Labels of an answer, by default."""

_PIECE = 256
"""Images that a worker holds as Python objects, of an Arrow batch of any size."""

_ANSWER = "__sightstream_answer"

_broadcasts: WeakValueDictionary[tuple[str, str], Shipped] = WeakValueDictionary()
"""Models by application and identity, as long as a function uses them."""


def load_model(
    model: str | os.PathLike[str], *, home: str | os.PathLike[str] | None = None,
    registry: str | None = None, engine: Literal["auto", "onnx", "keras"] | None = None,
) -> ServedModel:  # fmt: skip
    """Load a model version after a check of its files and of its answer.

    Args:
        model: `NAME` for its champion, `NAME@ALIAS`, `NAME@NUMBER`, or the path of a version's
            folder, which holds version.json.
        home: The home folder with the registry; by default as configured: SIGHTSTREAM_HOME,
            sightstream.toml in the current folder, or ./data.
        registry: The uri of an MLflow tracking server, or sqlite:///...; wins over `home`.
        engine: `onnx`, `keras`, or `auto` for ONNX where it agrees with Keras.

    Returns:
        The model, for `classify` and `predict`; it may be pickled and broadcast.

    Raises:
        ModelNotFoundError: There is no such model, version or alias.
        ModelDamagedError: A file is not the one that was registered, or the model does not run.
        RegistryUnavailableError: The registry does not answer.
        ConfigError: A setting is not allowed.

    Examples:
        >>> load_model("leaf@champion")  # doctest: +SKIP
        >>> load_model("leaf@3", home="/srv/sightstream")  # doctest: +SKIP
    """
    from sightstream import config
    from sightstream.models.registry import resolve

    settings = config.load(home=home, registry_uri=registry, engine=engine)
    return resolve(os.fspath(model), settings.registry_address, settings.engine)


def predict(
    images: Iterable[str | bytes | os.PathLike[str] | None], model: ServedModel, *,
    top_k: int = TOP_K, max_bytes: int = DEFAULT_LIMITS.max_bytes,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
) -> list[dict[str, Any]]:  # fmt: skip
    """Classify images in this process, without Spark.

    Images are paths, uris, or the content of image files; other arguments are as in `classify`.

    Returns:
        For each image, in order, a dict with the columns that `classify` adds. An image that cannot
        be classified has the status `rejected` and an error code; it raises nothing.

    Examples:
        >>> predict(["leaf.jpg", b"no image"], load_model("leaf"))  # doctest: +SKIP
    """
    if isinstance(images, (str, bytes, os.PathLike)):
        raise TypeError("predict takes a list of images; for one, write: predict([image], ...)")
    _require_model(model)
    results_of = _Results(Pickled(model), Limits(max_bytes, max_pixels), top_k)
    left, found = iter(images), list[dict[str, Any]]()
    while piece := list(islice(left, _PIECE)):
        found += results_of(piece).to_pylist()
    return found


def classify(
    df: DataFrame, model: ServedModel, image: str = "content", *, top_k: int = TOP_K,
    max_bytes: int = DEFAULT_LIMITS.max_bytes, max_pixels: int = DEFAULT_LIMITS.max_pixels,
) -> DataFrame:  # fmt: skip
    """Add a model's answers to the rows of a DataFrame, batch or streaming.

    Each image is classified once, whatever follows in the query. It works in any session of Spark
    4.0 or newer whose Python workers have sightstream installed. A worker needs memory for
    `spark.sql.execution.arrow.maxRecordsPerBatch` rows, 10,000 by default, with their images.

    Args:
        df: The rows.
        model: The model, from `load_model`.
        image: The column that holds the images: binary for their content, string for their local
            paths or uris, which the workers read.
        top_k: Labels in `top`, at most.
        max_bytes: Larger images are rejected, by path before they are read.
        max_pixels: Images of more pixels are rejected before they are decoded.

    Returns:
        The rows with the columns `status` (`ok` or `rejected`), `error_code`, `error_detail`,
        `label`, `score`, `top`, `model`, `model_version`, `format`, `width` and `height`. An image
        that cannot be classified, or is null, is rejected; it fails no query.

    Raises:
        InputError: There is no such column, it is of another type, or `df` already has a column of
            one of these names.

    Examples:
        >>> files = spark.read.format("binaryFile").load("photos")  # doctest: +SKIP
        >>> classify(files, model).select("path", "label", "score").show()  # doctest: +SKIP
    """
    if not hasattr(df, "schema"):
        raise TypeError(
            f"classify takes a DataFrame of Spark, and not {type(df)}; for images in this process, "
            "write: predict([image, ...], model)"
        )
    _require_columns(df, image)
    # Spark copies what is deterministic into filters and projections, and would classify twice.
    answer = _udf(
        _shipped(df.sparkSession, model), Limits(max_bytes, max_pixels), top_k
    ).asNondeterministic()
    quoted = f"`{image.replace('`', '``')}`"
    return df.withColumn(_ANSWER, answer(quoted)).select("*", f"{_ANSWER}.*").drop(_ANSWER)


def classify_udf(
    model: ServedModel, *, top_k: int = TOP_K, max_bytes: int = DEFAULT_LIMITS.max_bytes,
    max_pixels: int = DEFAULT_LIMITS.max_pixels,
) -> Any:  # fmt: skip
    """Make a user-defined function for expressions and SQL; arguments are as in `classify`.

    Returns:
        A function of one binary or string column, whose result is a struct of the columns that
        `classify` adds. It belongs to the active session.

    Examples:
        >>> spark.udf.register("leaf", classify_udf(model))  # doctest: +SKIP
        >>> spark.sql("select path, leaf(content).label from photos")  # doctest: +SKIP
    """
    from pyspark.sql import SparkSession

    shipped = _shipped(SparkSession.active(), model)
    return _udf(shipped, Limits(max_bytes, max_pixels), top_k)


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


def _udf(model: Shipped, limits: Limits, top_k: int) -> Any:
    from pyspark.sql import functions

    results_of = _Results(model, limits, top_k)

    def over_arrow(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
        results_of.answering.prepare_worker()
        for images in batches:
            yield results_of.batch(images)

    if hasattr(functions, "arrow_udf"):  # from Spark 4.1 on
        return functions.arrow_udf(over_arrow, ddl(RESULT_COLUMNS))
    return functions.pandas_udf(_over_pandas(results_of), ddl(RESULT_COLUMNS))


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
        if top_k < 1:
            raise ValueError(f"top_k is 1 or more, not {top_k}")
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
