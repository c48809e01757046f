"""The archive of Spark's classes, with which its JVM starts in half the time.

See JEP 350, Dynamic CDS Archives. A JVM that does not fit an archive starts without it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.errors import first_line
from sightstream.runtime import spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def make() -> None:
    """Writes `spark.ARCHIVE`, for this environment and this Java; takes half a minute."""
    spark.ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=spark.ARCHIVE.parent) as folder:
        made = Path(folder, "archive")
        jvm = f'-XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit="{made}" -cp "{_class_path()}"'
        options = {"spark.driver.extraJavaOptions": jvm}
        session = spark.start("archive", Path(folder, "home"), "local[2]", options=options)
        _use(session, Path(folder, "checkpoint"))
        spark.stop(session)
        made.replace(spark.ARCHIVE)


def _class_path() -> str:
    """The class path of Spark's launcher, with another spelling of the jar that it has twice.

    Java 21 archives one of two equal names, and then fits no process that has both.
    """
    import pyspark

    home = Path(pyspark.__file__).parent
    (twice,) = home.glob("jars/slf4j-api-*.jar")
    return f"{twice}:{home}/./jars/*"


def _use(session: SparkSession, checkpoint: Path) -> None:
    """Has the JVM load the classes of a stream and of a training."""
    from pyspark.sql import functions as F  # noqa: N812

    session.sparkContext.parallelize(range(2), 2).map(str).collect()
    double = F.pandas_udf(lambda values: values * 2, "long")

    def classify(batch: DataFrame, _: int) -> None:
        batch.repartition(2).select(double("value"), "timestamp").toArrow()

    counted = session.readStream.format("rate-micro-batch").option("rowsPerBatch", 8).load()
    writer = counted.writeStream.foreachBatch(classify).option("checkpointLocation", checkpoint)
    query = writer.trigger(processingTime="0 seconds").start()
    while not query.lastProgress and query.isActive:
        query.awaitTermination(1)
    query.stop()


if __name__ == "__main__":
    try:
        make()
    except Exception as error:  # whatever Spark or Java does wrong: it is of use, not of need
        sys.exit(f"sightstream: {first_line(error)}")
