"""A neighbour's Spark with Delta Lake's own reader and writer, in a process of its own."""

import fcntl
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from sightstream.runtime import jars
from tests import ivy

SPARK = "4.2.1"
"""The last Spark that Delta Lake is built for: with another, its classes do not fit."""

DELTA = ("io.delta:delta-spark_4.2_2.13:4.4.0", "io.delta:delta-storage:4.4.0")


class Lake:
    """Runs SQL and streams of Delta's; a table is named by its folder."""

    def __init__(self, pool):
        self._pool = pool

    def sql(self, text):
        """The rows that a statement answers, as dictionaries."""
        return self._pool.submit(_sql, text).result()

    def follow(self, table, out, **options):
        """Read what is new since the last call with this folder; the rows, as dictionaries."""
        return self._pool.submit(_follow, str(table), str(out), options).result()


@contextmanager
def running(folder):
    """Yields a lake whose Spark keeps its files in a folder, until the block ends."""
    try:
        delta, spark = ivy.fetch("delta-4.4.0", *DELTA), _pyspark()
    except OSError as error:
        pytest.skip(f"Delta Lake's Spark cannot be had: {error}")
    start = (str(spark), delta, str(folder))
    with ProcessPoolExecutor(1, get_context("spawn"), _start, start) as pool:
        yield Lake(pool)


def _pyspark():
    """A folder with Delta's pyspark, from the cache or else from the package registry."""
    folder = jars.cache() / f"pyspark-{SPARK}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            install = [
                Path(sys.executable).parent / "uv",
                "pip",
                "install",
                "--no-config",
                "--quiet",
            ]
            install += ["--python", sys.executable, "--target", folder, f"pyspark=={SPARK}"]
            done = subprocess.run(install, capture_output=True, text=True)
            if done.returncode:
                raise OSError(done.stderr.strip())
            (folder / "whole").touch()
    return folder


def _start(pyspark, jars, folder):
    sys.path.insert(0, pyspark)
    from pyspark.sql import SparkSession

    options = {
        "spark.jars": ",".join(map(str, jars)), "spark.ui.enabled": "false",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": "1", "spark.sql.session.timeZone": "UTC",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",  # of a VACUUM, too
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
        "spark.sql.warehouse.dir": f"{folder}/warehouse", "spark.local.dir": f"{folder}/local",
    }  # fmt: skip
    builder = SparkSession.builder.master("local[1]")
    for name, value in options.items():
        builder = builder.config(name, value)
    builder.getOrCreate().sparkContext.setLogLevel("OFF")


def _sql(text):
    return [row.asDict() for row in _told(lambda: _session().sql(text).collect())]


def _follow(table, out, options):
    reader = _session().readStream.format("delta").options(**options)
    found = []

    def read(rows, _):
        found.extend(row.asDict() for row in rows.collect())

    def run():
        writer = reader.load(table).writeStream.foreachBatch(read)
        query = writer.option("checkpointLocation", out).trigger(availableNow=True).start()
        query.awaitTermination()

    _told(run)
    return found


def _session():
    from pyspark.sql import SparkSession

    return SparkSession.active()


def _told(run):
    """Runs a function; Spark's errors cannot be pickled, so that one of Python's is raised."""
    try:
        return run()
    except Exception as error:
        raise RuntimeError(str(error)[:2000]) from None
