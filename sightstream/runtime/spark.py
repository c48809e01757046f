"""The one place that builds a Spark session."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream.config import Settings
from sightstream.runtime import cluster, jars, jvm
from sightstream.terminal import chatter_to

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped]
    from pyspark import SparkContext
    from pyspark.sql import SparkSession


ARCHIVE = Path(sys.prefix, "share", "sightstream", "spark.jsa")
"""What `archive` makes."""

PIECE = 1024
"""The most rows that go to a worker in one piece, as Arrow."""

REST = 1.0
"""Seconds without a task after which a Python worker gives memory back."""

_BY_NAME = {
    "run": {
        # A micro-batch runs plans of three nodes, of which nothing is to be gained by making code.
        "spark.sql.codegen.wholeStage": "false",
        # Else what a task answers goes through the block manager from 1 MB on, in 20 ms more.
        "spark.task.maxDirectResultSize": "64m",
    },
    "train": {
        "spark.python.daemon.module": "training.daemon",
        # Else tasks of RDDs and those of DataFrames have daemons and workers of their own.
        "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
    },
}
"""What applications of a name have besides."""


def start(settings: Settings, name: str, *, optimised: bool = False) -> SparkSession:
    """Starts a session whose JVM and workers write to logs/spark.log instead of the screen.

    Args:
        settings: the master, the driver's memory and the home folder.
        name: the application's name in Spark, and of its scratch folder.
        optimised: whether the JVM itself computes for long, as MLlib does. What else it does is
            done by the time it would be optimised, and Python has the cores meanwhile.

    Raises:
        EnvironmentUnfitError: Java is missing or of a version that Spark does not run on, or the
            cluster is not there or not fit.
    """
    jvm.require_java()
    cluster.require_master(settings.master)
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    # Workers on another Python than the driver's cannot read what it pickles.
    os.environ["PYSPARK_PYTHON"] = settings.spark.get("spark.pyspark.python", _python())
    # Else Spark starts two more to look through all that is installed for data sources.
    os.environ["PYSPARK_DRIVER_PYTHON"] = os.devnull
    local = cluster.is_local(settings.master)
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    scratch = scratch_folder(settings, name)
    scratch.mkdir(parents=True, exist_ok=True)
    conf = SparkConf().setAppName(name).setMaster(settings.master)
    options = _options(settings, scratch, name, optimised)
    conf.setAll({**options, **settings.spark}.items())
    if local:
        conf.set("spark.driver.bindAddress", "127.0.0.1")
    before = _children()
    try:
        with chatter_to(settings.logs / "spark.log"):
            context = SparkContext.getOrCreate(conf)
            _interruptible(context)
            session = SparkSession.builder.getOrCreate()
    except BaseException:
        if SparkContext._gateway is None:
            _end_unborn(before)
        raise
    if not local:
        try:
            cluster.require_workers(session, settings)
        except BaseException:
            stop(session)
            raise
    session.conf.set("spark.sql.shuffle.partitions", session.sparkContext.defaultParallelism)
    return session


def scratch_folder(settings: Settings, name: str) -> Path:
    """Where an application of this name keeps what is of no use after its end."""
    return settings.root / "tmp" / name


def _python() -> str:
    """What `sightstream.python` is installed as, or else this Python."""
    installed = Path(sysconfig.get_path("scripts"), "sightstream-python")
    return str(installed) if installed.exists() else sys.executable


def _end_unborn(before: set[psutil.Process]) -> None:
    """Ends a JVM whose start was interrupted: pyspark forgets it, and it would wait for ever.

    It is any child that was not there before: its command line is empty for a moment each time that
    one of Spark's scripts becomes the next.
    """
    import psutil

    for child in _children() - before:
        with suppress(psutil.Error):
            child.kill()


def _children() -> set[psutil.Process]:
    import psutil

    return set(psutil.Process().children())


def _interruptible(context: SparkContext) -> None:
    """Makes Ctrl-C end Spark's jobs, and then what waits for them.

    pyspark's own handler asks for that over the connection on which the interrupted call awaits its
    answer, and each takes the other's.
    """
    gateway: Any = context._gateway

    def interrupt(*_: object) -> None:
        if connection := gateway._gateway_client.get_thread_connection():
            connection.close()
        context.cancelAllJobs()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def is_alive(session: SparkSession) -> bool:
    """Whether its JVM runs; takes 0.1 s if it does."""
    process = getattr(session.sparkContext._gateway, "proc", None)
    if process is not None:
        # One that was killed closes its connections a moment before it has ended.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
            return False
    return True


def stop(session: SparkSession) -> None:
    """Ends a session and its JVM, so that the next one is built with its own settings."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if is_alive(session):
        session.stop()
    if gateway is not None:
        gateway.shutdown()
        process = getattr(gateway, "proc", None)
        if process is not None:
            process.stdin.close()
            process.wait(timeout=300)
        SparkContext._gateway = SparkContext._jvm = None


@contextmanager
def at_work() -> Iterator[None]:
    """A task of a Python worker: what it has freed goes back to the system when the worker rests.

    glibc keeps free memory that lies below what is in use: 80 MB of a worker, now and then. To give
    it back takes 1 to 5 ms, and the next task as much to get it again.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, _release_memory)
        signal.setitimer(signal.ITIMER_REAL, REST)


def _release_memory(*_: object) -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # which other C libraries do not have
    if trim:
        trim(0)


def _options(settings: Settings, scratch: Path, name: str, optimised: bool) -> dict[str, str]:
    # The classes that any session loads need more metaspace than Java begins with.
    jvm = "-XX:+UseSerialGC -XX:MetaspaceSize=256m"
    if not optimised:
        jvm += " -XX:TieredStopAtLevel=1"
    kafka = name == "run" and "kafka" in settings.source
    if kafka:
        # Messages die young. Where that generation is small they are moved to the old one, and
        # when that is full the stream stops for 0.1 to 0.2 s.
        jvm += " -XX:NewRatio=1 -XX:SurvivorRatio=3"
    # Where there is none, or one of another Java, nothing is said, and nothing fails.
    archive = f'-XX:SharedArchiveFile="{ARCHIVE}" -Xlog:cds=off -Xlog:cds+dynamic=off'
    heap = f"-Xms{settings.driver_memory}" if kafka else ""
    threads = {"OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"}
    return {
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": f"{jvm} {heap} {archive}",
        "spark.executor.extraJavaOptions": jvm,
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        # Over TCP, a small piece waits up to 40 ms for the acknowledgement of the one before
        # (RFC 896, tcp(7)). From Spark 4.1 on; one that is older does not know the option.
        "spark.python.unix.domain.socket.enabled": "true",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # As pyspark's shell has it anyhow; but that writes all the rest, and then drops it.
        "spark.log.level": "WARN",
        # How a plan is told to those who listen; this is the cheapest way.
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(PIECE),
        # What the driver deals out stays Arrow until it is in a task.
        "spark.sql.execution.arrow.localRelationThreshold": "0",
        # Of the images that messages carry, a worker and the JVM each hold this much at once.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(16 * 2**20),
        "spark.sql.adaptive.enabled": "false",
        # Of a message's headers of one name, the first counts: they are read from the end.
        "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.sql.streaming.pollingDelay": "50ms",
        # The default ones take 25 ms for each file of a checkpoint, twice a micro-batch; these take
        # 5, for a chmod process. They rename too, which is atomic where the home folder is.
        "spark.sql.streaming.checkpointFileManagerClass": (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        ),
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.sql.streaming.numRecentProgressUpdates": "5",
        "spark.sql.streaming.minBatchesToRetain": "20",
        # Queries take turns; each has a pool of its own.
        "spark.scheduler.mode": "FAIR",
        # Local files, since packages would be put on the workers' Python path too.
        **({"spark.jars": ",".join(map(str, jars.spark_kafka()))} if kafka else {}),
        **{f"spark.executorEnv.{name}": "1" for name in threads},
        **_BY_NAME.get(name, {}),
    }
