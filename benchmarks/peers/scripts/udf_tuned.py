"""The same query tuned: one UDF on ONNX Runtime with scaled decoding, and options for small files.

Without `openCostInBytes` a task gets 32 files at most; without the threshold of the listing Spark
starts a task for each file only to list it.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from protocol import CORES, INBOX, ROWS, WORK, decode, network
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import IntegerType

OPTIONS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    # While another is measured all processes stand still; that is no lost executor.
    "spark.network.timeout": "1h",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
    "spark.sql.files.maxPartitionBytes": "16m",
    "spark.sql.files.openCostInBytes": "16384",
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000000",
    "spark.ui.enabled": "false",
}


def load_model() -> Callable[[Any], Any]:
    """What decodes and answers batches, in a worker."""
    run = network()

    def labels(contents: Any) -> Any:
        images = [decode(io.BytesIO(each), scaled=True) for each in contents]
        return run(np.stack(images)).argmax(1).astype(np.int32)

    return labels


spark = SparkSession.builder.master(f"local[{CORES}]").config(map=OPTIONS).getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

predict = predict_batch_udf(load_model, return_type=IntegerType(), batch_size=64)
files = spark.readStream.format("binaryFile").schema(
    "path string, modificationTime timestamp, length long, content binary"
)
rows = files.load(f"{INBOX}/*").withColumn("label", predict("content"))
query = rows.select("path", "label").writeStream.format("parquet")
query.option("checkpointLocation", f"{WORK}/checkpoint").start(str(ROWS)).awaitTermination()
