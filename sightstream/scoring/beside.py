"""Other models that answer beside the first one, each in a process of its own that may die.

A worker hands each chunk of decoded images to them after the first model has answered for it, and
goes on. At the end of a piece it waits for them. How long each takes is measured: a shadow gets as
many images as it answers for within its share of the task's time, the others get all. One that
raises, dies or is much later than it usually is, is ended, and not asked again in this task.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.models.version import ServedModel
from sightstream.runtime.worker import end_in
from sightstream.scoring.child import Child, LostError
from sightstream.scoring.classifier import Answer, best
from sightstream.tables.schema import OTHER

if TYPE_CHECKING:
    from sightstream.scoring.udf import Shipped

SHARE = 2.0
"""Times the first model's time in a task, reading and decoding included, that a shadow gets."""

FLOOR = 0.1
"""Seconds that it gets at least, in tasks of few images."""

LATE = 3.0
"""Times the seconds that it usually takes after which it is late."""

GRACE = 1.0
"""Seconds more, since other work may hold it up; those that are no shadows have `PATIENCE`."""

TRIES = 5
"""Images that tell how long one takes, before any of the stream is there."""

RARELY = 50
"""Of so many chunks, one has an image for a shadow that takes longer than the time for it."""

PATIENCE = 30.0
"""Seconds that a task waits for a process that starts for the first time, and loads its model; or
for one that hangs, and is to answer for each image.
"""

AHEAD = 2
"""Chunks that are on their way to a process, at most, since their pixels take memory."""

MEMORY = 2 * 2**30
"""Bytes that the process of a model may allocate."""

NICE = 10
"""By how much a shadow's priority is lower than the first model's, also while it starts."""

FAULTS = ("failed", "crashed", "timeout")
"""Reasons why a model that was asked gave no answer."""

SKIPPED = "skipped"
"""The fault of a model that was not asked: it rests, starts, or is a shadow and takes too long."""

Best = tuple[NDArray[np.int64], NDArray[np.float32]]


class Seat(NamedTuple):
    """The place of another model beside the first one; `key` tells models apart."""

    key: str
    model: Shipped
    is_shadow: bool


class Companion:
    """Another model in a process of its own, which a worker keeps from task to task."""

    def __init__(self, model: ServedModel, top_k: int, nice: int = 0) -> None:
        """Start the process, and return before it is ready."""
        self.preprocessing = model.preprocessing
        self._child = Child(Engine, model, top_k, memory=MEMORY, nice=nice)
        # One call after the other, beside the worker's own work.
        self._thread = ThreadPoolExecutor(1)
        self._took = deque[float](maxlen=4)
        self._dear = 0
        self.started = self._thread.submit(self._start)

    @property
    def usual(self) -> float:
        """Seconds for an image in the best of the last calls: others were held up by other work."""
        return min(self._took, default=0.0)

    def affordable(self, seconds: float) -> int:
        """Return how many images it may get for so much time; sometimes one that is too dear."""
        count = max(0, int(seconds / self.usual))
        if not count:
            self._dear += 1
        return count or int(self._dear % RARELY == 0)

    def ask(self, pixels: NDArray[np.uint8]) -> Future[Best]:
        """Begin to answer for a chunk of images."""
        return self._thread.submit(self._best, pixels)

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._child.kill()

    def _start(self) -> None:
        self._took.append(self._child.ask("ready"))

    def _best(self, pixels: NDArray[np.uint8]) -> Best:
        begin = perf_counter()
        found: Best = self._child.ask("best", pixels)
        self._took.append((perf_counter() - begin) / len(pixels))
        return found


class Engine:
    """The model inside its process."""

    def __init__(self, model: ServedModel, top_k: int) -> None:
        self._engine, self._top_k = model.load(), min(top_k, len(model.labels))
        side = model.preprocessing
        self._grey = np.full((1, side.height, side.width, side.channels), 128, np.uint8)

    def ready(self) -> float:
        """Return how long an image takes at best, once the model is loaded."""
        times = [perf_counter()]
        for _ in range(TRIES):
            self.best(self._grey)
            times.append(perf_counter())
        return min(after - before for before, after in pairwise(times))

    def best(self, pixels: NDArray[np.uint8]) -> Best:
        """Return the indices and the scores of the best labels."""
        return best(self._engine(pixels), self._top_k)


_companions: dict[str, Companion] = {}
"""The models that this process has beside it, by their keys."""

_lost: set[str] = set()
"""The keys of those that had a fault here; nobody waits for them while they start again."""


@dataclass
class Turn:
    """How one of the others fares in a task."""

    key: str
    is_shadow: bool
    fault: str = ""
    given: float = 0.0
    """Seconds that its work in the task takes, if it is as usual."""
    decoded: int = 0
    """Images that were decoded for it, and not handed on yet."""
    asked: list[tuple[list[Answer], Future[Best]]] = field(default_factory=list)


class Beside:
    """What other models answer in one task, whose images come in pieces, and these in chunks."""

    def __init__(
        self, seats: Sequence[Seat], resting: Collection[str], limits: Limits, top_k: int
    ) -> None:
        """Start what does not run yet, but those that rest, by key."""
        self._limits = limits
        self._turns = [
            Turn(seat.key, seat.is_shadow, SKIPPED * (seat.key in resting)) for seat in seats
        ]
        for key in _companions.keys() - {seat.key for seat in seats}:
            _companions.pop(key).end()
        for seat, turn in zip(seats, self._turns, strict=True):
            if not turn.fault and seat.key not in _companions:
                nice = NICE * seat.is_shadow
                _companions[seat.key] = Companion(seat.model.value, top_k, nice)
            if seat.key in _lost and not turn.fault and not _companions[seat.key].started.done():
                turn.fault = SKIPPED
        self._begin, self._away = perf_counter(), 0.0
        self._pixels: dict[Preprocessing, list[NDArray[np.uint8] | None]] = {}

    def ready(self) -> None:
        """Wait until all have started; one that fails to is not asked."""
        for turn in self._active():
            self._started(turn)

    def see(self, content: bytes, own: Preprocessing, frame: int | None = None) -> None:
        """Decode an image, which the first model can take, for those that take another input.

        Where a frame is an event, all see that one; else one that wants each sees the first one's.
        """
        inputs: dict[Preprocessing, list[Turn]] = {}
        for turn in self._active():
            inputs.setdefault(_companions[turn.key].preprocessing, []).append(turn)
        inputs.pop(own, None)
        for each, turns in inputs.items():
            asked = [turn for turn in turns if self._left(turn) > 0]
            decoded = self._decoded(content, _seen(each, own, frame), asked)
            self._pixels.setdefault(each, []).append(decoded)

    def _decoded(
        self, content: bytes, preprocessing: Preprocessing, turns: Sequence[Turn]
    ) -> NDArray[np.uint8] | None:
        """Decode an image at the expense of those that ask for it, if there are any."""
        if not turns:
            return None
        begin = perf_counter()
        end_in(self._limits.seconds)
        found = decode(content, preprocessing, self._limits)
        end_in(0)
        took = perf_counter() - begin
        self._away += took
        for turn in turns:
            turn.given, turn.decoded = turn.given + took, turn.decoded + 1
        return found.pixels if isinstance(found, Decoded) else None

    def _left(self, turn: Turn) -> float:
        """Return the seconds that one has left in this task; those that are no shadows have all."""
        if not turn.is_shadow:
            return math.inf
        share = max(FLOOR, SHARE * (perf_counter() - self._begin - self._away))
        return share - turn.given - turn.decoded * _companions[turn.key].usual

    def ask(self, answers: Sequence[Answer], pixels: NDArray[np.uint8], own: Preprocessing) -> None:
        """Hand on a chunk of images that the first model has answered for."""
        seen: dict[Preprocessing, list[NDArray[np.uint8] | None]]
        seen, self._pixels = self._pixels, {}
        for turn in self._active():
            if not self._started(turn):
                continue
            if len(turn.asked) >= AHEAD and self._answered(turn, turn.asked[-AHEAD][1]) is None:
                continue
            companion = _companions[turn.key]
            chunk = (
                pixels if companion.preprocessing == own else seen.get(companion.preprocessing, [])
            )
            good = [place for place, each in enumerate(chunk) if each is not None]
            turn.decoded = 0
            if turn.is_shadow:
                good = good[: companion.affordable(self._left(turn))]
            if good:
                turn.given += len(good) * companion.usual
                wanted = np.stack([chunk[place] for place in good])
                turn.asked.append(([answers[place] for place in good], companion.ask(wanted)))

    def table(self, answers: Sequence[Answer]) -> pa.Table:
        """Return `schema.OTHER` for all images of a piece, one model after the other."""
        row = {id(answer): number for number, answer in enumerate(answers)}
        return pa.concat_tables(self._part(turn, answers, row) for turn in self._turns)

    def _part(self, turn: Turn, answers: Sequence[Answer], row: Mapping[int, int]) -> pa.Table:
        classes: list[object] = [None] * len(answers)
        scores: list[object] = [None] * len(answers)
        failed = set[int]()
        for chunk, future in turn.asked:
            if found := self._answered(turn, future):
                for answer, *both in zip(chunk, *(each.tolist() for each in found), strict=True):
                    if np.isfinite(both[1]).all():
                        classes[row[id(answer)]], scores[row[id(answer)]] = both
                    else:
                        failed.add(row[id(answer)])
        turn.asked = []
        missed = [
            ("failed" if number in failed else turn.fault or SKIPPED)
            if each.classes and classes[number] is None
            else None
            for number, each in enumerate(answers)
        ]
        return pa.table([classes, scores, missed], OTHER)

    def _active(self) -> list[Turn]:
        return [turn for turn in self._turns if not turn.fault]

    def _started(self, turn: Turn) -> bool:
        return self._wait(turn, _companions[turn.key].started, PATIENCE)

    def _answered(self, turn: Turn, future: Future[Best]) -> Best | None:
        """Return an answer, also of one that failed later; None where there is none in time."""
        seconds = 0.0
        if not turn.fault:
            waiting = sum(len(chunk) for chunk, each in turn.asked if not each.done())
            grace = GRACE if turn.is_shadow else PATIENCE
            seconds = grace + LATE * _companions[turn.key].usual * waiting
        return future.result() if self._wait(turn, future, seconds) else None

    def _wait(self, turn: Turn, future: Future[Any], seconds: float) -> bool:
        """Return whether there is an answer; where there is none, the model is ended."""
        begin = perf_counter()
        try:
            future.result(seconds)
        except NotYetError:
            self._drop(turn, "timeout")
        except LostError as lost:
            self._drop(turn, lost.code)
        except Exception:  # of an engine, which may raise any
            self._drop(turn, "failed")
        else:
            return True
        finally:
            self._away += perf_counter() - begin
        return False

    def _drop(self, turn: Turn, fault: str) -> None:
        turn.fault = turn.fault or fault
        _lost.add(turn.key)
        if companion := _companions.pop(turn.key, None):
            with suppress(OSError):
                companion.end()


def _seen(wanted: Preprocessing, own: Preprocessing, frame: int | None) -> Preprocessing:
    if frame is None and wanted.frame != "each":
        return wanted
    return replace(wanted, frame=own.frame if frame is None else frame)
