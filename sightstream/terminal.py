"""The terminal: two consoles, a file for what libraries print, and Ctrl-C."""

import codecs
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console

from sightstream.errors import EnvironmentUnfitError

out = Console(width=None if sys.stdout.isatty() else 240)
"""Console for data: stdout."""

err = Console(stderr=True)
"""Console for everything else: stderr."""

OURS: dict[str, Any] = {"redirect_stdout": False, "redirect_stderr": False}
"""Arguments that keep the prints of libraries out of rich's `Live` and `Progress`."""


@contextmanager
def chatter_to(log: Path) -> Iterator[None]:
    """Appends what libraries and child processes print to a file until the block ends.

    Processes started in the block keep printing to the file. `out` and `err` still reach the
    screen; a live display in the block needs `OURS`.

    Raises:
        EnvironmentUnfitError: the file cannot be written.
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
    """Keeps a console on the screen; the outermost of several nested calls does."""
    if console.file not in (sys.stdout, sys.stderr):
        yield
        return
    console.file.flush()
    number, errors = os.dup(2 if console.stderr else 1), getattr(console.file, "errors", None)
    with os.fdopen(number, "w", buffering=1, errors=errors) as screen:
        console.file = screen
        try:
            yield
        finally:
            console.file = None  # type: ignore[assignment]  # again what sys.stdout is then


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Shows a spinner and a text on stderr until the block ends."""
    from rich.live import Live
    from rich.spinner import Spinner

    with Live(Spinner("dots", text), console=err, transient=True, **OURS):
        yield


def stop_on_signals(on_stop: Callable[[], object] = int) -> Event:
    """Returns an event that the first Ctrl-C or SIGTERM sets; a second Ctrl-C does as before."""
    stop, before = Event(), signal.getsignal(signal.SIGINT)

    def leave(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()
        on_stop()

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    return stop


def take_any_text() -> None:
    """Has stdout escape, as JSON does, what its encoding lacks, and names that are no UTF-8."""
    if isinstance(sys.stdout, TextIOWrapper):
        codecs.register_error("as JSON", _as_json)
        sys.stdout.reconfigure(errors="as JSON")


def _as_json(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def line(text: str) -> None:
    """Prints a line of data on stdout, without wrapping, colours and markup.

    Control characters are escaped, which JSON does not have.
    """
    out.file.write(printable(text) + "\n")
    out.file.flush()


def say(text: str) -> None:
    """Prints a sentence on stderr as it is; control characters are escaped."""
    err.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def table(columns: list[str], rows: list[list[Any]]) -> None:
    """Prints a table on stdout; control characters in its cells are escaped."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table()
    for column in columns:
        drawn.add_column(Text(_cell(column)))
    for row in rows:
        drawn.add_row(*(Text(_cell(value)) for value in row))
    out.print(drawn)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, dict)):
        value = json.dumps(value, default=str)
    return printable(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))


def printable(text: str) -> str:
    """Escapes the control characters of a text from outside."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int = 60) -> str:
    """Escapes a text, and cuts the middle out if it is long: many names differ at their ends."""
    text, half = printable(text), (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - half]}…{text[-half:]}"


def log_to(file: Path) -> None:
    """Sends the log of this process to a file; EnvironmentUnfitError where it cannot be written."""
    import logging

    logging.basicConfig(
        stream=os.fdopen(_opened(file), "a", buffering=1),
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    noisy_ones = {
        "py4j": "ERROR",
        "pyspark": "ERROR",
        "kafka": "WARNING",
        "kafka.net.selector": "ERROR",  # warns of its own tasks where the cores are busy
    }
    for noisy, level in noisy_ones.items():
        logging.getLogger(noisy).setLevel(level)


def _opened(log: Path) -> int:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"{log} cannot be written: {error.strerror}; give another folder with --home"
        ) from None
