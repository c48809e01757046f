"""The one place that builds a Spark session."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import socket
import stat
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sightstream.errors import EnvironmentUnfitError, first_line
from sightstream.runtime import cluster, jars, jvm
from sightstream.runtime import pyspark_inside as inside
from sightstream.runtime.worker import mute_pyspark
from sightstream.terminal import chatter_to

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped]
    from pyspark import SparkContext
    from pyspark.sql import SparkSession


ARCHIVE = Path(sys.prefix, "share", "sightstream", "spark.jsa")
"""Archive of Spark's classes, which `class_archive` makes."""

PIECE = 1024
"""Most rows that go to a worker in one piece, as Arrow."""

SOCKET_FOLDER_BYTES = 60
"""Longest path of a folder for sockets, which Spark gives names of 43 bytes; macOS allows 103."""

_TOKEN_URLS = "org.apache.kafka.sasl.oauthbearer.allowed.urls"  # noqa: S105 - of urls

_CHECKPOINT_FILES = "spark.sql.streaming.checkpointFileManagerClass"

_OPTIONS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # As pyspark's shell has it anyhow; but that writes all the rest, and then drops it.
    "spark.log.level": "WARN",
    # How a plan is described to listeners; this is the cheapest way.
    "spark.sql.ui.explainMode": "simple",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": str(PIECE),
    # What the driver deals out stays Arrow until it is in a task.
    "spark.sql.execution.arrow.localRelationThreshold": "0",
    # Of the images that rows hold, a worker and the JVM each hold this much at once.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 * 2**20),
    "spark.sql.adaptive.enabled": "false",
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.sql.streaming.pollingDelay": "50ms",
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.sql.streaming.numRecentProgressUpdates": "5",
    "spark.sql.streaming.minBatchesToRetain": "20",
    # Queries take turns; each has a pool of its own.
    "spark.scheduler.mode": "FAIR",
    # A worker has a core, and so one thread.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.TF_NUM_INTRAOP_THREADS": "1",
    "spark.executorEnv.TF_NUM_INTEROP_THREADS": "1",
}
"""Options of every session."""


def start(
    name: str,
    home: Path,
    master: str,
    driver_memory: str = "1g",
    options: Mapping[str, str] = MappingProxyType({}),
    *,
    kafka: bool = False,
    token_url: str = "",
    optimised: bool = False,
) -> SparkSession:
    """Starts a session whose JVM and workers write to logs/spark.log instead of the screen.

    Args:
        name: of the application in Spark, and of its scratch folder.
        home: folder of the logs and of scratch files, as an absolute path.
        master: as Spark takes it, such as local[*].
        driver_memory: heap of the driver's JVM, such as 1g.
        options: further ones of Spark, which win over ours.
        kafka: whether the session reads Kafka.
        token_url: where its clients get the tokens with which they log in to Kafka, if any.
        optimised: whether the JVM itself computes for long, as MLlib does, so that it pays to
            optimise its code with cores that Python could have.

    Raises:
        EnvironmentUnfitError: Java is missing or of a version that Spark does not run on, the
            cluster is not there or not fit, or the path of the home has a comma.
    """
    if "," in str(home):  # Spark would cut the path there, and write into two folders
        raise EnvironmentUnfitError(
            f"the path of the home folder {home} has a comma, which Spark cannot have there; "
            "rename the folder, or give another one with --home"
        )
    jvm.require_java()
    cluster.require_master(master)
    import psutil
    from pyspark import SparkConf, SparkContext, __version__
    from pyspark.sql import SparkSession

    from sightstream.config import SECRET  # workers, which import this module, need no settings

    mute_pyspark()
    # Workers on another Python than the driver's cannot read what it pickles.
    os.environ["PYSPARK_PYTHON"] = options.get("spark.pyspark.python", _python())
    # Else Spark starts two more to look through all that is installed for data sources.
    os.environ["PYSPARK_DRIVER_PYTHON"] = os.devnull
    local = cluster.is_local(master)
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    scratch = scratch_folder(home, name)
    scratch.mkdir(parents=True, exist_ok=True)
    conf = SparkConf().setAppName(name).setMaster(master)
    if not master.startswith("yarn"):  # which keeps the files of an application elsewhere
        conf.set("spark.hadoop.fs.defaultFS", "file:///")  # HADOOP_CONF_DIR may name another
    jvm_options = _jvm_options(driver_memory, kafka, optimised)
    if __version__ == "4.0.0":  # which leaves a folder `artifacts` in the JVM's current one
        jvm_options["spark.driver.extraJavaOptions"] += f' -Duser.dir="{scratch}"'
    if token_url:  # from Kafka's clients 4 on, they ask no other
        jvm_options["spark.driver.extraJavaOptions"] += f' -D{_TOKEN_URLS}="{token_url}"'
    ours = _OPTIONS | jvm_options | _folders(scratch, local)
    conf.setAll({**ours, **options}.items())
    if local:
        conf.set("spark.driver.bindAddress", "127.0.0.1")
        # Else whoever is on this machine may send the driver what Java unpacks. Spark makes a
        # secret for the session where all of it is local.
        conf.setIfMissing("spark.authenticate", "true")
    seen = SparkConf().setAll([each for each in conf.getAll() if not SECRET.search(each[0])])
    before = {*psutil.Process().children()}
    try:
        with chatter_to(home / "logs" / "spark.log"), _blocked(signal.SIGTERM):
            inside.launch(seen)
            inside.answer_the_jvm_alone()
            context = SparkContext.getOrCreate(conf)
            make_interruptible(context)
            session = SparkSession.builder.getOrCreate()
    except BaseException as error:
        if not inside.has_jvm():
            _end_unborn(before)
        if isinstance(error, Exception):
            raise EnvironmentUnfitError(
                f"Spark cannot start: {first_line(error)}; details are in {home}/logs/spark.log"
            ) from error
        raise
    if not local:
        try:
            cluster.require_workers(session, master, home)
        except BaseException:
            stop(session)
            raise
    session.conf.set("spark.sql.shuffle.partitions", context.defaultParallelism)
    # The default one takes 25 ms for each file of a checkpoint, twice a micro-batch; this takes 5,
    # for a chmod process. It renames too, which is atomic where the home folder is.
    files = inside.checkpoint_file_manager(context)
    if files and _CHECKPOINT_FILES not in options:
        session.conf.set(_CHECKPOINT_FILES, files)
    return session


def scratch_folder(home: Path, name: str) -> Path:
    """Folder of files that are of no use after the end of their application."""
    return home / "tmp" / name


def clear(home: Path, name: str) -> None:
    """Removes what an application left that was killed; it must not be running."""
    scratch = scratch_folder(home, name)
    for folder in (scratch, _short(scratch)):
        shutil.rmtree(folder, ignore_errors=True)


def _jvm_options(driver_memory: str, kafka: bool, optimised: bool) -> dict[str, str]:
    # The classes that any session loads need more metaspace than Java begins with.
    flags = "-XX:+UseSerialGC -XX:MetaspaceSize=256m"
    if not optimised:
        flags += " -XX:TieredStopAtLevel=1"
    # A young generation of a third of the heap fills up with what lived for a millisecond.
    # Without Xms, Java begins with a 64th of the machine's memory, and never gives that back. What
    # a long micro-batch needed more than others is given back at the next collection of all.
    heap = "" if optimised else " -Xmn40m -Xms160m -XX:MaxHeapFreeRatio=40 -XX:-ShrinkHeapInSteps"
    # Where there is no archive, or one of another Java, nothing is logged, and nothing fails.
    archive = f'-XX:SharedArchiveFile="{ARCHIVE}" -Xlog:cds=off -Xlog:cds+dynamic=off'
    return {
        "spark.driver.memory": driver_memory,
        # With -Xrs, SIGTERM stays blocked: sent to all processes of a service, it would otherwise
        # end the JVM before the current micro-batch.
        "spark.driver.extraJavaOptions": f"-Xrs {flags}{heap} {archive}",
        "spark.executor.extraJavaOptions": flags,
        # Local files, since packages would be put on the workers' Python path too.
        **({"spark.jars": ",".join(map(str, jars.spark_kafka()))} if kafka else {}),
    }


def _folders(scratch: Path, local: bool) -> dict[str, str]:
    # The folders of a cluster's machines are not ours; the worker's Python closes its socket there.
    sockets = _socket_folder(scratch) if local else Path("/tmp")  # noqa: S108
    return {
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        # Over TCP, a small piece waits up to 40 ms for the acknowledgement of the one before
        # (RFC 896, tcp(7)). Spark 4.0 does not know the option.
        "spark.python.unix.domain.socket.enabled": str(sockets is not None).lower(),
        **({"spark.python.unix.domain.socket.dir": str(sockets)} if sockets else {}),
    }


def _socket_folder(scratch: Path) -> Path | None:
    """A folder that only this user can enter: whoever reaches a socket of Spark runs code as we do.

    None where the path of each is too long, or another user has taken it.
    """
    for folder in (scratch / "sockets", _short(scratch)):
        if len(os.fsencode(folder)) <= SOCKET_FOLDER_BYTES:
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            if _is_private(folder):
                _drop_dead(folder)
                return folder
    return None


def _is_private(folder: Path) -> bool:
    """Tells whether this user alone can enter a folder, which is no link to one."""
    found = folder.lstat()
    return found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == stat.S_IRWXU


def renew_sockets(session: SparkSession) -> None:
    """Makes the folder of the workers' sockets again if it is gone: programs clean /tmp of the old.

    What uses a socket in it fails once more at most; then Spark starts its workers anew.

    Raises:
        EnvironmentUnfitError: another user has taken its place.
    """
    if not (named := session.conf.get("spark.python.unix.domain.socket.dir", None)):
        return
    folder = Path(named)
    with suppress(OSError):  # then what needs it fails, and tells why
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder == _short(Path(session.conf.get("spark.local.dir"))) and not _is_private(folder):
            raise EnvironmentUnfitError(
                f"{folder} is open to other users, and Spark's workers are reached by it; remove "
                "it, and start again"
            )


def _drop_dead(folder: Path) -> None:
    """Removes sockets whose owners were killed."""
    for path in folder.glob(".*.sock"):
        with socket.socket(socket.AF_UNIX) as probe:
            reached = probe.connect_ex(str(path))
        if reached == errno.ECONNREFUSED:  # others have gone since, or have no time
            path.unlink(missing_ok=True)


def _short(scratch: Path) -> Path:
    """A folder for the sockets of a home whose path is long; of one name, so that one is left."""
    digest = hashlib.sha256(os.fsencode(scratch)).hexdigest()
    return Path(tempfile.gettempdir(), f"ss-{digest[:8]}")


def _python() -> str:
    """The program that `worker.main` is installed as, or else this Python."""
    installed = Path(sysconfig.get_path("scripts"), "sightstream-python")
    return str(installed) if installed.exists() else sys.executable


def _end_unborn(before: set[psutil.Process]) -> None:
    """Ends a JVM whose start was interrupted: pyspark forgets it, and it would wait for ever.

    Any new child is it: it has no command line while one of Spark's scripts becomes the next.
    """
    import psutil

    for child in {*psutil.Process().children()} - before:
        with suppress(psutil.Error):
            child.kill()


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Blocks a signal in this thread and, for good, in processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def make_interruptible(context: SparkContext) -> None:
    """Makes Ctrl-C end Spark's jobs, and then whoever waits for them.

    `start` does so; in another thread than the main one it has no effect.
    """

    def interrupt(*_: object) -> None:
        inside.interrupt(context)
        context.cancelAllJobs()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def is_alive(session: SparkSession) -> bool:
    """Whether the session's JVM runs; takes 0.1 s if it does."""
    return not inside.jvm_has_ended()


def stop(session: SparkSession) -> None:
    """Ends a session and its JVM, so that the next one is built with its own settings."""
    sockets = None
    if is_alive(session):
        if scratch := session.conf.get("spark.local.dir", None):  # a session that `start` built
            sockets = _short(Path(scratch))
        session.stop()
    inside.end_jvm()
    if sockets:
        with suppress(OSError):  # it is not there, or sockets of the same name's next session are
            sockets.rmdir()
