"""A child process for work on untrusted data: it may die without harm to its parent."""

import math
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Lock
from typing import Any, Literal, TypeAlias

from sightstream.errors import SightstreamError
from sightstream.images import mute_pillow

SECONDS = 60.0
"""Time that an answer may take, and the start of a child before it."""

SLICES = 30
"""Parts of the time for an answer; each counts as one, however long this process stood still."""

MEMORY = 4 * 2**30
"""Bytes that a child may allocate."""

LOADING = 300.0
"""Time that a model may take to load and to answer: TensorFlow's import alone takes half a minute
on a busy machine.
"""


Running: TypeAlias = tuple[BaseProcess, Connection]


def for_models() -> int:
    """Return the bytes that a child may allocate for a model: half of the machine's, or more."""
    import psutil  # type: ignore[import-untyped]

    return max(MEMORY, int(psutil.virtual_memory().total) // 2)


class LostError(Exception):
    """A child died or took too long; `detail` is a sentence that explains the code.

    `stood_still` is true where the child's own clock ended it, which is behind ours unless both
    processes were stopped.
    """

    def __init__(
        self, code: Literal["crashed", "timeout"], detail: str, *, stood_still: bool = False
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.stood_still = stood_still


class Child:
    """A process that holds one object and calls its methods, one call at a time, for any thread.

    The first call starts it, and the first call after it was lost starts it again. Time in which
    both stand still does not count, as in a container that is paused.
    """

    def __init__(
        self, make: Callable[..., Any], *arguments: Any, memory: int = MEMORY, nice: int = 0
    ) -> None:
        """Remember the function that makes the object in the child; all is pickled.

        The child may allocate so many bytes of memory; its priority is lower by `nice`.
        """
        self._given, self._nice = (memory, make, arguments), nice
        self._lock = Lock()
        self._running: Running | None = None

    def start(self) -> None:
        """Start the process where none runs, and wait until it has made the object.

        Raises as `ask` does.
        """
        with self._lock:
            self._require_started()

    def ask(self, method: str, *arguments: Any, seconds: float = SECONDS) -> Any:
        """Call a method of the object, by name; arguments and answer are pickled.

        Raises:
            LostError: The child died or took too long.
            SightstreamError: The method or `make` raised it, as ModuleNotFoundError.
            RuntimeError: The method or `make` raised another error, with the same text.
        """
        with self._lock:
            try:
                return self._exchange(self._require_started(), (method, arguments), seconds)
            except LostError as lost:
                if not lost.stood_still:
                    raise
            return self._exchange(self._require_started(), (method, arguments), seconds)

    def end(self) -> None:
        """End the process after the current call; the next call starts another."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """End the process at once, from any thread; a call that runs raises LostError."""
        if running := self._running:
            running[0].kill()

    def _require_started(self) -> Running:
        if not self._running:
            self._running = self._start()
            try:
                self._exchange(self._running, None, SECONDS)
            except BaseException:
                self._end()
                raise
        return self._running

    def _exchange(
        self, running: Running, call: tuple[str, tuple[Any, ...]] | None, seconds: float
    ) -> Any:
        """Send a call, and wait for its answer; for None, wait for what tells of the start."""
        process, connection = running
        doing = "was not classified" if call else "did not start"
        try:
            if call:
                connection.send((*call, seconds))
            if not _comes(connection, seconds):
                self._end()
                raise LostError("timeout", f"It {doing} within {seconds:g} seconds.")
            answer, error = connection.recv()
        except (EOFError, OSError):
            process.join()
            self._end()
            if process.exitcode == -signal.SIGALRM:
                late = f"It {doing} within {seconds:g} seconds."
                raise LostError("timeout", late, stood_still=True) from None
            what = "classified it" if call else "was to classify"
            sentence = f"It ended the process that {what} (code {process.exitcode})."
            raise LostError("crashed", sentence) from None
        if error:
            raise error
        return answer

    def _start(self) -> Running:
        # Forking a process of several threads is not safe.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, *self._given), daemon=True)
        process.start()
        if self._nice and process.pid:
            with suppress(ProcessLookupError):  # it has ended already
                lower = os.getpriority(os.PRIO_PROCESS, 0) + self._nice
                os.setpriority(os.PRIO_PROCESS, process.pid, lower)
        theirs.close()
        return process, ours

    def _end(self) -> None:
        if self._running:
            process, connection = self._running
            self._running = None
            process.kill()
            process.join()
            connection.close()


def _serve(
    connection: Connection, memory: int, make: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:  # fmt: skip
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # Ctrl-C is for the parent, with whom this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mute_pillow()
    _set_alarm(SECONDS)
    made, failure = _attempt(make, *arguments)
    signal.alarm(0)
    connection.send((None, failure))
    while not failure:
        try:
            method, given, seconds = connection.recv()
        except EOFError:
            return
        _set_alarm(seconds)
        answer = _attempt(getattr(made, method), *given)
        signal.alarm(0)
        connection.send(answer)


def _set_alarm(seconds: float) -> None:
    """Where the parent is gone, the system ends what hangs here, long after the parent would."""
    signal.alarm(math.ceil(2 * seconds) + 5)


def _comes(connection: Connection, seconds: float) -> bool:
    """Return whether there is something to receive in time, in which this process ran."""
    return any(connection.poll(seconds / SLICES) for _ in range(SLICES))


def _attempt(call: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return call(*arguments), None
    except (SightstreamError, ModuleNotFoundError) as error:
        return None, error
    except Exception as error:  # not all of them can be unpickled
        return None, RuntimeError(str(error))
