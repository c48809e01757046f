"""What a person sees: the two consoles, and where the chatter of libraries goes instead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with _held(out), _held(err):
        saved = {fd: os.dup(fd) for fd in (1, 2)}
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
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


def printable(text: str) -> str:
    """A text from outside with its control characters shown instead of obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def log_to(file: Path) -> None:
    """Sends this process's log to a file.

    Raises:
        EnvironmentUnfitError: it cannot be written.
    """
    import logging

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            filename=file,
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
    except OSError as error:
        raise EnvironmentUnfitError(f"{file} cannot be written: {error.strerror}") from None
    for noisy in ("py4j", "pyspark"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
