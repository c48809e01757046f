"""`sightstream.classify` against pyspark's `predict_batch_udf`, in one session of Spark."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sightstream import classify
from sightstream.models.version import ServedModel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PLAIN = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "2g",
    "spark.driver.bindAddress": "127.0.0.1",
}
"""Options that do not bear on speed."""

TUNED = {
    # A task for each 32 files would be over before its worker is warm.
    "spark.sql.files.openCostInBytes": "16384",
    "spark.sql.files.maxPartitionBytes": "16m",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000000",
}
"""What a user would set for many small files, for both sides."""

ONE_THREAD = {f"spark.executorEnv.{n}": "1" for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def session(cores: int, options: dict[str, str]) -> SparkSession:
    """A session of a user, with nothing of ours."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{cores}]").appName("library")
    made = builder.config(map={**PLAIN, **ONE_THREAD, **options}).getOrCreate()
    made.sparkContext.setLogLevel("ERROR")
    return made


def content(files: DataFrame, model: ServedModel) -> DataFrame:
    """The same bytes, through the JVM."""
    return classify(files, model, image="content").select("path", "label", "score")


def path(files: DataFrame, model: ServedModel) -> DataFrame:
    """The files, read by the workers."""
    return classify(files, model, image="path").select("path", "label", "score")


def by_hand(files: DataFrame, model: ServedModel, *, scaled: bool = False) -> DataFrame:
    """predict_batch_udf with the same engine, in one UDF that decodes and predicts.

    Args:
        files: of `binaryFile`.
        model: what answers.
        scaled: JPEG is decoded at 1/2, 1/4 or 1/8 as sightstream does; else as the guides write it.
    """
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import FloatType, StringType, StructField, StructType

    side, labels = (model.preprocessing.width, model.preprocessing.height), model.labels
    shipped = files.sparkSession.sparkContext.broadcast(model.content)

    def make() -> Callable[[Any], dict[str, Any]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        run = onnxruntime.InferenceSession(shipped.value, options)
        name = run.get_inputs()[0].name

        def decoded(data: bytes) -> Any:
            image = Image.open(BytesIO(data))
            if scaled:
                image.draft("RGB", side)
            return np.asarray(image.convert("RGB").resize(side, Image.Resampling.BILINEAR))

        def answer(contents: Any) -> dict[str, Any]:
            (scores,) = run.run(None, {name: np.stack([decoded(each) for each in contents])})
            best = scores.argmax(axis=1)
            return {"label": np.array(labels)[best], "score": scores.max(axis=1)}

        return answer

    kind = StructType([StructField("label", StringType()), StructField("score", FloatType())])
    udf = predict_batch_udf(make, return_type=kind, batch_size=64)
    return files.withColumn("answer", udf("content")).select("path", "answer.*")


SIDES = {
    "classify": content,
    "classify by path": path,
    "predict_batch_udf": by_hand,
    "predict_batch_udf, scaled decoding": partial(by_hand, scaled=True),
}


def rounds(
    folder: Path, model: ServedModel, number: int, cores: int, options: dict[str, str]
) -> dict[str, list[float]]:
    """Images a second of each side, in turn, after a round that is not measured.

    Args:
        folder: holds the images.
        model: what answers.
        number: rounds.
        cores: of the session.
        options: of the session, such as `TUNED`; empty for Spark's own.
    """
    from sightstream.runtime.spark import stop

    count = len(list(folder.iterdir()))
    spark = session(cores, options)
    try:
        files = spark.read.format("binaryFile").load(str(folder))
        queries = {name: side(files, model) for name, side in SIDES.items()}
        figures: dict[str, list[float]] = {name: [] for name in queries}
        for turn in range(number + 1):
            # Every other round runs backwards, since the machine may be slower after one.
            for name in list(queries)[:: -1 if turn % 2 else 1]:
                begin = time.perf_counter()
                queries[name].write.format("noop").mode("overwrite").save()
                figures[name].append(count / (time.perf_counter() - begin))
        return {name: speeds[1:] for name, speeds in figures.items()}
    finally:
        stop(spark)
