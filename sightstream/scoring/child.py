"""A process of its own for work on what is not trusted: it may die, and nothing dies with it."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Lock
from typing import Any, Literal

from sightstream.errors import SightstreamError
from sightstream.images import mute_pillow

SECONDS = 60.0
"""The time that an answer may take, the start of a child included."""

MEMORY = 4 * 2**30
"""The bytes that a child may allocate."""


class LostError(Exception):
    """A child died at its work, or took too long and was ended.

    Attributes:
        code: crashed or timeout.
        detail: the sentence that goes with it.
    """

    def __init__(self, code: Literal["crashed", "timeout"], detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Child:
    """A process that holds one object and answers with its methods, one question at a time.

    It is started by the first question, and again by the next one after it was lost. Any number of
    threads may ask.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        """Remembers what the process is to hold.

        Args:
            make: what makes the object there; it and its arguments are pickled.
            arguments: of `make`.
        """
        self._given = make, arguments
        self._lock = Lock()
        self._running: tuple[BaseProcess, Connection] | None = None

    def ask(self, method: str, *arguments: Any, seconds: float = SECONDS) -> Any:
        """Calls a method of the object.

        Args:
            method: its name.
            arguments: pickled, as is the answer.
            seconds: the time that it may take.

        Raises:
            LostError: there was no answer.
            SightstreamError: the method raised it, or the making of the object.
            RuntimeError: they raised another one, whose text it has.
        """
        with self._lock:
            process, connection = self._running = self._running or self._start()
            try:
                connection.send((method, arguments))
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
        """Ends the process, once it has answered; the next question starts another."""
        with self._lock:
            self._end()

    def _start(self) -> tuple[BaseProcess, Connection]:
        # Forking a process of several threads is not safe.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, *self._given), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def _end(self) -> None:
        if self._running:
            process, connection = self._running
            self._running = None
            process.kill()
            process.join()
            connection.close()


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    # Ctrl-C is for the parent, with whom this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mute_pillow()
    made, failure = _attempt(make, *arguments)
    while True:
        try:
            method, given = connection.recv()
        except EOFError:
            return
        answer = (None, failure) if failure else _attempt(getattr(made, method), *given)
        connection.send(answer)


def _attempt(call: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return call(*arguments), None
    except SightstreamError as error:
        return None, error
    except Exception as error:  # not all of them can be unpickled
        return None, RuntimeError(str(error))
