"""Spark's predict_batch_udf as its guide writes it, over a stream of binary files, to Parquet.

A UDF decodes to a column of floats, predict_batch_udf calls model.predict of Keras; Spark's own
options, but for the address and for the pauses of a comparison.
"""

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from protocol import CORES, INBOX, MODEL, ROWS, SIDE, WORK, decode
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import IntegerType

session = SparkSession.builder.master(f"local[{CORES}]").config("spark.driver.memory", "2g")
session = session.config("spark.driver.bindAddress", "127.0.0.1")
# While another is measured all processes stand still; that is no lost executor.
spark = session.config("spark.network.timeout", "1h").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")


def load_model() -> Callable[[Any], Any]:
    """What answers batches, in a worker."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    model = keras.saving.load_model(f"{MODEL}.keras", compile=False)
    return lambda pixels: model.predict(pixels, verbose=0).argmax(1).astype(np.int32)


@pandas_udf("array<float>")
def pixels(contents: pd.Series) -> pd.Series:
    """Flat pixels, since a column holds no tensors."""
    return contents.map(lambda each: decode(io.BytesIO(each)).astype(np.float32).ravel())


predict = predict_batch_udf(
    load_model, return_type=IntegerType(), batch_size=100, input_tensor_shapes=[[SIDE, SIDE, 3]]
)
files = spark.readStream.format("binaryFile").schema(
    "path string, modificationTime timestamp, length long, content binary"
)
rows = files.load(f"{INBOX}/*").withColumn("label", predict(pixels("content")))
query = rows.select("path", "label").writeStream.format("parquet")
query.option("checkpointLocation", f"{WORK}/checkpoint").start(str(ROWS)).awaitTermination()
