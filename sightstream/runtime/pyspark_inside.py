"""Every use of pyspark's private parts: its gateway to the JVM, and what only the JVM knows.

Each is guarded: where a release of pyspark has another inside, the caller goes on without, and the
log records it once. `tests/integration/test_spark_contract.py` fails then.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socket import socket
from subprocess import Popen, TimeoutExpired
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

log = logging.getLogger("sightstream")

_CHECKPOINT_FILES = (
    "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager",
    "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager",
)
"""Names of one class: since Spark 4.1, and before."""

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Executor:
    """An executor; in local mode and on a cluster, the driver is one too."""

    tasks: int  # running now
    storage_used: int  # bytes of the heap that cached data take
    storage_all: int  # bytes of the heap that cached data can take


def _guarded(reach: Callable[_Given, _Found]) -> Callable[_Given, _Found | None]:
    """Makes a reach return None where pyspark's inside is another one."""

    @functools.wraps(reach)
    def guarded(*args: _Given.args, **kwargs: _Given.kwargs) -> _Found | None:
        from py4j.protocol import Py4JError

        try:
            return reach(*args, **kwargs)
        except (AttributeError, TypeError, Py4JError) as error:
            if isinstance(error, Py4JError) and "does not exist" not in str(error):
                raise  # such as of a JVM that has ended
            _missing(reach.__name__, str(error))
            return None

    return guarded


@functools.cache
def _missing(name: str, reason: str) -> None:
    log.warning("%s is not in this pyspark as in Spark 4.0 to 4.3: %s", name, reason)


@_guarded
def interrupt(context: SparkContext) -> None:
    """Closes the connection that this thread awaits an answer on, so that no later call takes it.

    pyspark's own handler of Ctrl-C asks for the end of all jobs over that same connection, and
    each of the two calls takes the other's answer.
    """
    gateway: Any = context._gateway
    if connection := gateway._gateway_client.get_thread_connection():
        connection.close()


@_guarded
def launch(conf: SparkConf) -> None:
    """Starts the JVM where there is none, with options on its command line, which all users see.

    A session may have further ones, of which its JVM is told by its connection.
    """
    from pyspark import SparkContext

    SparkContext._ensure_initialized(conf=conf)


@_guarded
def answer_the_jvm_alone() -> None:
    """Makes Python's server for calls of the JVM end connections of other processes.

    pyspark gives it no token to ask for. To be called before anything needs that server, such as a
    listener or `foreachBatch`.
    """
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if (jvm := _jvm_process()) is None:
        return
    if gateway.java_parameters.port in {port for _, port in _ends(jvm.pid)}:
        _answer_alone(gateway, jvm.pid)
    else:
        log.warning("whose a connection is cannot be seen here: Spark's server in Python takes any")


def _answer_alone(gateway: Any, pid: int) -> None:
    make = gateway._create_callback_server

    def made(parameters: Any) -> Any:
        server = make(parameters)
        _refuse_others(server, pid)
        return server

    gateway._create_callback_server = made


@_guarded  # py4j makes the server later, beyond the guard of who asked for this
def _refuse_others(server: Any, pid: int) -> None:
    connect = server._create_connection

    def connected(opened: socket, stream: Any) -> Any:
        connection = connect(opened, stream)
        if not _is_of(pid, opened):
            log.warning("a connection to Spark's server in Python was refused: not of its JVM")
            connection.start = connection.close
        return connection

    server._create_connection = connected


def _is_of(pid: int, opened: socket) -> bool:
    """Whether a process has the other end of a connection."""
    try:
        return opened.getpeername() in _ends(pid)
    except OSError:  # it is gone
        return False


def _ends(pid: int) -> set[tuple[str, int]]:
    """Addresses of a process's own ends of its connections; none where they cannot be seen."""
    import psutil  # type: ignore[import-untyped]

    with suppress(psutil.Error):
        found = (each.laddr for each in psutil.Process(pid).net_connections("tcp"))
        # Java's sockets are of IPv6, also for addresses of IPv4.
        return {(each.ip.removeprefix("::ffff:"), each.port) for each in found}
    return set()


@_guarded
def has_jvm() -> bool:
    """Whether pyspark knows of a JVM in this process."""
    from pyspark import SparkContext

    return SparkContext._gateway is not None


@_guarded
def jvm_has_ended() -> bool:
    """Whether the JVM that pyspark started has ended; takes 0.1 s if not."""
    process = _jvm_process()
    try:
        # One that was killed closes its connections a moment before it has ended.
        return process is not None and process.wait(timeout=0.1) is not None
    except TimeoutExpired:
        return False


@_guarded
def end_jvm() -> None:
    """Ends the JVM; pyspark then starts another one, with other options, for the next session."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if gateway is None:
        return
    process = _jvm_process()
    gateway.shutdown()
    if process is not None:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(timeout=300)
    SparkContext._gateway = SparkContext._jvm = None


def _jvm_process() -> Popen[bytes] | None:
    """Process of the JVM; None where spark-submit has started this program."""
    from pyspark import SparkContext

    return getattr(SparkContext._gateway, "proc", None)


@_guarded
def executors(context: SparkContext) -> list[Executor]:
    """All executors that are registered now; pyspark's own status tracker lacks them."""
    tracker: Any = context._jsc.sc().statusTracker()
    return [
        Executor(e.numRunningTasks(), e.usedOnHeapStorageMemory(), e.totalOnHeapStorageMemory())
        for e in tracker.getExecutorInfos()
    ]


@_guarded
def heap(context: SparkContext) -> dict[str, int]:
    """The heap of the driver's JVM in bytes, used and at most."""
    jvm: Any = context._jvm
    runtime = jvm.java.lang.Runtime.getRuntime()
    used = runtime.totalMemory() - runtime.freeMemory()
    return {"used": used, "most": runtime.maxMemory()}


def checkpoint_file_manager(context: SparkContext) -> str | None:
    """Name of the class that writes checkpoints as plain files; None where there is none."""
    from py4j.protocol import Py4JError

    inside: Any = context
    for name in _CHECKPOINT_FILES:
        with suppress(Py4JError, AttributeError):
            return str(inside._jvm.java.lang.Class.forName(name).getName())
    _missing("FileSystemBasedCheckpointFileManager", "checkpoints are written more slowly")
    return None


@_guarded
def give_whole_events(session: SparkSession, listener: object, events: object) -> None:
    """Makes a listener that is not added yet get events as they are in the JVM.

    pyspark copies each event field by field, in 2,000 calls that take 100 ms of a core. Instead of
    the listener's methods, those of `events` are called, which has a class `Java` whose
    `implements` holds "org.apache.spark.sql.streaming.PythonStreamingQueryListener".
    """
    jvm: Any = session.sparkContext._jvm
    wrapper = jvm.org.apache.spark.sql.streaming.PythonStreamingQueryListenerWrapper
    listener._jlistenerobj = wrapper(events)  # type: ignore[attr-defined]
