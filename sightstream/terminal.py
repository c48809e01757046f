"""What a person sees and says: the two consoles, where libraries chatter instead, Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from rich.console import Console

from sightstream.errors import EnvironmentUnfitError

out = Console(width=None if sys.stdout.isatty() else 240)
"""Data, on stdout."""

err = Console(stderr=True)
"""Everything else, on stderr."""


@contextmanager
def chatter_to(log: Path) -> Iterator[None]:
    """Sends what libraries and child processes print to a file, while it lasts.

    Processes that are started meanwhile keep it. `out` and `err` still reach the screen.

    Args:
        log: appended to; its folder is created.

    Raises:
        EnvironmentUnfitError: it cannot be written.
    """
    file = _opened(log)
    with _held(out), _held(err):
        saved = {fd: os.dup(fd) for fd in (1, 2)}
        try:
            for fd in saved:
                os.dup2(file, fd)
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for fd, screen in saved.items():
                os.dup2(screen, fd)
                os.close(screen)
            os.close(file)


@contextmanager
def _held(console: Console) -> Iterator[None]:
    """Keeps a console on the screen; the outermost of several does it."""
    if console.file not in (sys.stdout, sys.stderr):
        yield
        return
    before = console.file
    before.flush()
    with os.fdopen(os.dup(2 if console.stderr else 1), "w", buffering=1) as screen:
        console.file = screen
        try:
            yield
        finally:
            console.file = before


def stop_on_signals() -> Event:
    """An event that the first Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts."""
    stop = Event()

    def leave(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.set()

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    return stop


def line(text: str) -> None:
    """Prints a line of data as it is: not wrapped, not coloured, with no markup in it obeyed."""
    out.file.write(text + "\n")
    out.file.flush()


def printable(text: str) -> str:
    """A text from outside with its control characters shown instead of obeyed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_to(file: Path) -> None:
    """Sends this process's log to a file.

    Raises:
        EnvironmentUnfitError: it cannot be written.
    """
    import logging

    logging.basicConfig(
        stream=os.fdopen(_opened(file), "a", buffering=1),
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy, level in {"py4j": "ERROR", "pyspark": "ERROR", "kafka": "WARNING"}.items():
        logging.getLogger(noisy).setLevel(level)


def _opened(log: Path) -> int:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"{log} cannot be written: {error.strerror}; give another folder with --home"
        ) from None
