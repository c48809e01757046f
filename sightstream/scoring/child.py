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
from typing import Any, Literal

from sightstream.errors import SightstreamError
from sightstream.images import mute_pillow

SECONDS = 60.0
"""Time that an answer may take, the start of a child included."""

MEMORY = 4 * 2**30
"""Bytes that a child may allocate."""


class LostError(Exception):
    """A child died or took too long; `detail` is a sentence that explains the code."""

    def __init__(self, code: Literal["crashed", "timeout"], detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Child:
    """A process that holds one object and calls its methods, one call at a time, for any thread.

    The first call starts it, and the first call after it was lost starts it again.
    """

    def __init__(
        self, make: Callable[..., Any], *arguments: Any, memory: int = MEMORY, nice: int = 0
    ) -> None:
        """Remember the function that makes the object in the child; all is pickled.

        The child may allocate so many bytes of memory; its priority is lower by `nice`.
        """
        self._given, self._nice = (memory, make, arguments), nice
        self._lock = Lock()
        self._running: tuple[BaseProcess, Connection] | None = None

    def ask(self, method: str, *arguments: Any, seconds: float = SECONDS) -> Any:
        """Call a method of the object, by name; arguments and answer are pickled.

        Raises:
            LostError: The child died or took too long.
            SightstreamError: The method or `make` raised it.
            RuntimeError: The method or `make` raised another error, with the same text.
        """
        with self._lock:
            process, connection = self._running = self._running or self._start()
            try:
                connection.send((method, arguments, seconds))
                if not connection.poll(seconds):
                    self._end()
                    raise LostError("timeout", f"It was not classified within {seconds:g} seconds.")
                answer, error = connection.recv()
            except (EOFError, OSError):
                process.join()
                self._end()
                sentence = f"It ended the process that classified it (code {process.exitcode})."
                raise LostError("crashed", sentence) from None
        if error:
            raise error
        return answer

    def end(self) -> None:
        """End the process after the current call; the next call starts another."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """End the process at once, from any thread; a call that runs raises LostError."""
        if running := self._running:
            running[0].kill()

    def _start(self) -> tuple[BaseProcess, Connection]:
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
    made, failure = _attempt(make, *arguments)
    while True:
        try:
            method, given, seconds = connection.recv()
        except EOFError:
            return
        # Where the parent is gone, the system ends what hangs here.
        signal.alarm(math.ceil(seconds) + 1)
        answer = (None, failure) if failure else _attempt(getattr(made, method), *given)
        signal.alarm(0)
        connection.send(answer)


def _attempt(call: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return call(*arguments), None
    except SightstreamError as error:
        return None, error
    except Exception as error:  # not all of them can be unpickled
        return None, RuntimeError(str(error))
