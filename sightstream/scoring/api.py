"""The public functions: models applied to anybody's images, with Spark or without."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sightstream.images.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sightstream.models.version import ServedModel

TOP_K = 3
"""Labels of an answer, by default."""


def load_model(
    model: str | os.PathLike[str], *, home: str | os.PathLike[str] | None = None,
    registry: str | None = None, engine: str | None = None,
) -> ServedModel:  # fmt: skip
    """Load a model version after a check of its files and of its answer.

    Args:
        model: `NAME` for its champion, `NAME@ALIAS`, `NAME@NUMBER`, or the path of a version's
            folder, which holds version.json.
        home: The home folder with the registry; by default as configured: SIGHTSTREAM_HOME,
            sightstream.toml in the current folder, or ./data.
        registry: The uri of an MLflow tracking server, or sqlite:///...; wins over `home`.
        engine: `onnx`, `int8`, `openvino`, `openvino-int8`, `openvino-bf16`, `keras`, or `auto` for
            the fastest that agrees.

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
    return resolve(os.fspath(model), settings.registry_address, settings.engine, settings.device)


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
    from sightstream.scoring import results

    if isinstance(images, (str, bytes, os.PathLike)):
        raise TypeError("predict takes a list of images; for one, write: predict([image], ...)")
    return results.of_images(images, model, Limits(max_bytes, max_pixels), top_k)


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
    from sightstream.scoring import results

    return results.of_rows(df, model, image, Limits(max_bytes, max_pixels), top_k)


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

    from sightstream.scoring import results

    return results.udf(SparkSession.active(), model, Limits(max_bytes, max_pixels), top_k)
