"""The supervisor: starts the stream again whenever it ends, and does what its last line asks for.

As a service manager does, and the person who reads its log.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread

import psutil

from tests.chaos import processes
from tests.chaos.ledger import Ledger
from tests.conftest import end_session

PAUSE = 1.0
"""Seconds until it is started again."""

LOOK = 0.2
"""Seconds between two looks at whether it is ready."""

GRACE = 30.0
"""Seconds after a fault within which a stream that stayed ready may still end for it."""

JVM = "Spark's JVM has ended"
"""Stands for exit code 1 with that reason."""

_ASIDE = re.compile(r"\bmv (\S+) \1\.old\b")
_SETTING = re.compile(r"\b(SIGHTSTREAM_\w+)=(\S+) sightstream run\b")
_REMOVE = re.compile(r"\brm -f (\S+)")


@dataclass
class _Excuse:
    """Exit codes, and JVM, for which a fault is the reason; `end` is when it was undone."""

    codes: frozenset[int | str]
    end: float | None = None

    def is_over(self, ready: float, now: float) -> bool:
        """Whether it holds no more, for a stream that has been ready since a time."""
        return self.end is not None and (ready > self.end or now > self.end + GRACE)


class Supervised(Thread):
    """`sightstream run` on one home, until `end`."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], logs: Path, ledger: Ledger
    ) -> None:
        """Starts nothing yet; `logs` is a folder for what it says, outside the home."""
        super().__init__(name="supervisor", daemon=True)
        # Processes that were ended by faults.
        self.killed = set[int]()
        self._excuses = list[_Excuse]()
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._command, self._environment = command, dict(environment)
        self._logs, self._ledger = logs, ledger
        self._go, self._ended = Event(), Event()
        self._go.set()
        self._starting = Lock()
        self._sessions = list[int]()
        # Settings for the next start alone.
        self._once: dict[str, str] = {}
        # What such a setting was for: it is said again until a micro-batch has been committed, of
        # fewer offsets where one was that had been planned before.
        self._known = set[str]()

    def run(self) -> None:
        while self._go.wait() and not self._ended.is_set():
            with self._starting:
                may = self._go.is_set() and not self._ended.is_set()
                process = self._start() if may else None
            if process:
                self._wait(process)
                self._ended.wait(PAUSE)

    def processes(self, kind: str) -> list[psutil.Process]:
        """Those of the running stream; also of one that was left by a driver that is gone."""
        return [each for one in self._sessions[-2:] for each in processes.of(one)[kind]]

    @contextmanager
    def explained(self, codes: Sequence[int | str]) -> Iterator[None]:
        """Exit codes, and JVM, have a reason until the stream is ready again after the block."""
        excuse = _Excuse(frozenset(codes))
        self._excuses.append(excuse)
        try:
            yield
        finally:
            excuse.end = time.time()

    def explains(self, code: int | str) -> bool:
        """Whether there is a reason for an exit code."""
        return any(code in each.codes for each in self._excuses)

    @property
    def said(self) -> Path:
        """What the running stream has said."""
        return self._logs / f"run-{self.starts:03d}.err"

    @property
    def ready(self) -> bool:
        alive = self.process is not None and self.process.poll() is None
        return alive and "Ctrl-C ends" in self.said.read_text()

    def hold(self) -> None:
        """Ends all of it by SIGKILL, and starts none until `release`."""
        with self._starting:
            self._go.clear()
        self.kill()

    def release(self) -> None:
        self._go.set()

    def kill(self) -> None:
        """Ends all of it by SIGKILL."""
        with self._starting:  # not one that is started meanwhile
            process, sessions = self.process, self._sessions
            self._sessions = sessions[-1:]
        if process:
            self.killed.add(process.pid)
            end_session(process)
        for each in sessions:
            for left in (p for some in processes.of(each).values() for p in some):
                with suppress(psutil.Error):
                    left.kill()

    def end(self, seconds: float = 60) -> int | None:
        """Asks it to end in order; returns its exit code, None where it did not."""
        with self._starting:
            self._ended.set()
        self._go.set()
        code = None
        if process := self.process:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(seconds)
        self.kill()
        self.join(timeout=30)
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        self._ledger.started(self._logs.name)
        with self.said.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *self._command], env=self._environment | self._once,
                cwd=self._logs, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        self._once = {}
        self._sessions.append(self.process.pid)
        return self.process

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        ready = 0.0
        while (code := self._code(process)) is None:
            if not ready and self.ready:
                ready = time.time()
                self._ledger.ready(self._logs.name)
            for each in [e for e in self._excuses if ready and e.is_over(ready, time.time())]:
                self._excuses.remove(each)
        text = self.said.read_text(errors="replace")
        if self._ended.is_set():
            if "Traceback" in text:
                self._ledger.wrong(f"the stream said, when asked to end: {text}")
            return
        last = (text.strip().splitlines() or [""])[-1]
        faulty = process.pid in self.killed or self.explains(JVM if JVM in last else code)
        explained = (faulty or _what(last) in self._known) and "Traceback" not in text
        self._ledger.ended(code, last if "Traceback" not in text else text, explained=explained)
        if explained and _SETTING.search(last):
            self._known.add(_what(last))
        self._cure(last)

    @staticmethod
    def _code(process: subprocess.Popen[bytes]) -> int | None:
        try:
            return process.wait(LOOK)
        except subprocess.TimeoutExpired:
            return None

    def _cure(self, last: str) -> None:
        if found := _ASIDE.search(last):
            with suppress(OSError):
                os.rename(found[1], f"{found[1]}.{time.time():.0f}.old")  # noqa: PTH104
        elif found := _SETTING.search(last):
            self._once = {found[1]: found[2]}
        elif found := _REMOVE.search(last):
            Path(found[1]).unlink(missing_ok=True)


def _what(said: str) -> str:
    """What was said, without the offsets."""
    return said.partition("(")[0]
