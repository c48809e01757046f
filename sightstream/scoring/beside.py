"""Other models that answer beside the first one, each in a process of its own that may die.

A worker hands each chunk of decoded images to them after the first model has answered for it, and
goes on. At the end of a piece it waits for them, within their share of its time. One that raises,
hangs, is too slow or takes too much memory is ended, and not asked again in this task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.models.pace import fitting
from sightstream.models.version import ServedModel
from sightstream.scoring.child import SECONDS, Child, LostError
from sightstream.scoring.classifier import Answer, best
from sightstream.tables.schema import OTHER

if TYPE_CHECKING:
    from sightstream.scoring.udf import Shipped

SHARE = 2.0
"""Times the first model's time in a task, reading and decoding included, that a worker waits for
another one.
"""

FLOOR = 1.0
"""Seconds that it waits at least, in tasks of few images."""

PATIENCE = 30.0
"""Seconds that it waits for a process to start and to load its model."""

AHEAD = 2
"""Chunks that are on their way to a process, at most, since their pixels take memory."""

MEMORY = 2 * 2**30
"""Bytes that the process of a model may allocate."""

FAULTS = ("failed", "crashed", "timeout")
"""Reasons why a model that was asked gave no answer."""

TRIAL = "trial"
"""Word for a model that is asked again after a fault, and not waited for while it starts."""

PAUSED = "paused"
"""The fault of a model that was not asked, since it failed a short while ago."""

Best = tuple[NDArray[np.int64], NDArray[np.float32]]


class Seat(NamedTuple):
    """The place of another model beside the first one; `key` tells models apart."""

    key: str
    model: Shipped


class Second:
    """Another model in a process of its own, which a worker keeps from task to task."""

    def __init__(self, model: ServedModel, top_k: int) -> None:
        """Start the process, and return before it is ready."""
        self.preprocessing = model.preprocessing
        self._child = Child(Engine, model, top_k, memory=MEMORY)
        # One call after the other, beside the worker's own work.
        self._thread = ThreadPoolExecutor(1)
        self.started = self._thread.submit(self._child.ask, "ready")
        self._since = perf_counter()

    @property
    def patience(self) -> float:
        """Seconds that are left of the time to start."""
        return PATIENCE - (perf_counter() - self._since)

    def ask(self, pixels: NDArray[np.uint8]) -> Future[Best]:
        """Begin to answer for a chunk of images."""
        return self._thread.submit(self._child.ask, "best", pixels, seconds=SECONDS)

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._child.kill()


class Engine:
    """The model inside its process."""

    def __init__(self, model: ServedModel, top_k: int) -> None:
        self._engine, self._top_k = model.load(), min(top_k, len(model.labels))
        side = model.preprocessing
        self._chunk = fitting(side.height, side.width)

    def ready(self) -> None:
        """Answer once the model is loaded."""

    def best(self, pixels: NDArray[np.uint8]) -> Best:
        """Return the indices and the scores of the best labels."""
        parts = [
            best(self._engine(pixels[start : start + self._chunk]), self._top_k)
            for start in range(0, len(pixels), self._chunk)
        ]
        classes, scores = zip(*parts, strict=True)
        return np.concatenate(classes), np.concatenate(scores)


_seconds: dict[str, Second] = {}
"""The models that this process has beside it, by their keys."""


class Beside:
    """What other models answer in one task, whose images come in pieces, and these in chunks."""

    def __init__(
        self, seats: Sequence[Seat], resting: Mapping[str, str], limits: Limits, top_k: int
    ) -> None:
        """Start what does not run yet; those that rest are `PAUSED` or on `TRIAL`, by key."""
        self._seats, self._limits = seats, limits
        self._faults = {key: PAUSED for key, word in resting.items() if word == PAUSED}
        for key in _seconds.keys() - {seat.key for seat in seats}:
            _seconds.pop(key).end()
        for seat in seats:
            if seat.key in self._faults:
                continue
            if seat.key not in _seconds:
                _seconds[seat.key] = Second(seat.model.value, top_k)
            if seat.key in resting and not _seconds[seat.key].started.done():
                self._faults[seat.key] = PAUSED
        self._begin, self._away = perf_counter(), 0.0
        self._spent = dict.fromkeys([seat.key for seat in seats], 0.0)
        self._pixels: dict[Preprocessing, list[NDArray[np.uint8] | None]] = {}
        self._asked: dict[str, list[tuple[list[Answer], Future[Best]]]] = {}

    def ready(self) -> None:
        """Wait until all have started; one that fails to is not asked."""
        for key in self._active():
            self._started(key)

    def see(self, content: bytes, own: Preprocessing) -> None:
        """Decode an image, which the first model can take, for those that take another input."""
        begin = perf_counter()
        inputs = {_seconds[key].preprocessing: key for key in self._active()}
        inputs.pop(own, None)
        for each, key in inputs.items():
            decoded = decode(content, each, self._limits)
            pixels = decoded.pixels if isinstance(decoded, Decoded) else None
            self._pixels.setdefault(each, []).append(pixels)
            self._spent[key] += perf_counter() - begin
            begin, self._away = perf_counter(), self._away + perf_counter() - begin

    def ask(self, answers: Sequence[Answer], pixels: NDArray[np.uint8], own: Preprocessing) -> None:
        """Hand on a chunk of images that the first model has answered for."""
        seen: dict[Preprocessing, list[NDArray[np.uint8] | None]]
        seen, self._pixels = self._pixels, {}
        for key in self._active():
            if not self._started(key):
                continue
            preprocessing = _seconds[key].preprocessing
            chunk = list(pixels) if preprocessing == own else seen.get(preprocessing, [])
            good = [place for place, each in enumerate(chunk) if each is not None]
            pending = self._asked.setdefault(key, [])
            if len(pending) >= AHEAD:
                self._answered(key, pending[-AHEAD][1])
            if good and key not in self._faults:
                wanted = np.stack([chunk[place] for place in good])
                pending.append(([answers[place] for place in good], _seconds[key].ask(wanted)))

    def table(self, answers: Sequence[Answer]) -> pa.Table:
        """Return `schema.OTHER` for all images of a piece, one model after the other."""
        row = {id(answer): number for number, answer in enumerate(answers)}
        asked, self._asked = self._asked, {}
        return pa.concat_tables(self._part(seat.key, answers, row, asked) for seat in self._seats)

    def _part(
        self, key: str, answers: Sequence[Answer], row: Mapping[int, int],
        asked: Mapping[str, list[tuple[list[Answer], Future[Best]]]],
    ) -> pa.Table:  # fmt: skip
        classes: list[object] = [None] * len(answers)
        scores: list[object] = [None] * len(answers)
        for chunk, future in asked.get(key, []):
            if found := self._answered(key, future):
                for answer, *both in zip(chunk, *(each.tolist() for each in found), strict=True):
                    classes[row[id(answer)]], scores[row[id(answer)]] = both
        fault = self._faults.get(key)
        missed = [
            fault if each.classes and classes[number] is None else None
            for number, each in enumerate(answers)
        ]
        return pa.table([classes, scores, missed], OTHER)

    def _active(self) -> list[str]:
        return [seat.key for seat in self._seats if seat.key not in self._faults]

    def _started(self, key: str) -> bool:
        second = _seconds[key]
        if second.started.done() and not second.started.exception():
            return True
        return self._wait(key, second.started, max(second.patience, 0.0)) is not None

    def _answered(self, key: str, future: Future[Best]) -> Best | None:
        """Return an answer, also of one that failed later; None where there is none in time."""
        begin = perf_counter()
        left = max(FLOOR, SHARE * (begin - self._begin - self._away)) - self._spent[key]
        found = self._wait(key, future, 0.0 if key in self._faults else max(left, 0.0))
        self._spent[key] += perf_counter() - begin
        return found[0] if found else None

    def _wait(self, key: str, future: Future[Best], seconds: float) -> tuple[Best] | None:
        begin = perf_counter()
        try:
            return (future.result(seconds),)
        except NotYetError:
            self._drop(key, "timeout")
        except LostError as lost:
            self._drop(key, lost.code)
        except Exception:  # of an engine, which may raise any
            self._drop(key, "failed")
        finally:
            self._away += perf_counter() - begin
        return None

    def _drop(self, key: str, fault: str) -> None:
        self._faults.setdefault(key, fault)
        if second := _seconds.pop(key, None):
            with suppress(OSError):
                second.end()
