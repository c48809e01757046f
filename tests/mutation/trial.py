"""Trials: mutated input, one by one, in a child process that may die."""

from __future__ import annotations

import os
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from sightstream.scoring.child import Child, LostError
from tests.mutation.mutate import mutated
from tests.mutation.targets import TARGETS, Target, stay_below

SECONDS = 20.0
"""Seconds that one input may take; the product gives an image 30."""

MEMORY = 4 * 2**30
_STARTS = 5
_ROUND = 0.5  # seconds that a child works between two answers


@dataclass(frozen=True)
class Find:
    """An input that has neither an answer nor a sentence: the same number makes it again."""

    target: str
    number: int
    kind: str
    mutations: str
    what: str  # crashed, timeout, slow, or where and how it raised


@dataclass
class Tried:
    """What came of a target's inputs, by kind."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    finds: list[Find] = field(default_factory=list)

    def of(self, kind: str) -> Counter[str]:
        """Return the outcomes of a kind."""
        return Counter({o: n for (k, o), n in self.outcomes.items() if k == kind})


class Inputs:
    """A target's mutated inputs by number; picklable."""

    def __init__(
        self, name: str, seed: int, seeds: Mapping[str, Sequence[bytes]], words: Sequence[bytes]
    ) -> None:
        """Take the inputs of a target's seeds, and of words that are put into them."""
        self.name, self.seed, self.words = name, seed, words
        self.seeds = [(kind, each) for kind, made in seeds.items() for each in made]
        self.others = list(chain.from_iterable(seeds.values()))

    def __call__(self, number: int, target: Target) -> tuple[str, bytes, str]:
        """Return the kind, the bytes and the mutations of an input."""
        rng = random.Random(f"{self.seed} {self.name} {number}")
        kind, data = self.seeds[number % len(self.seeds)]
        made, names = mutated(rng, data, self.others, self.words)
        if target.repair and rng.random() < 0.5:
            made = target.repair(made)
        return kind, made, names


class Trial:
    """The child's part: it makes inputs, and calls the target with them."""

    def __init__(self, folder: str, inputs: Inputs, target: Target | None = None) -> None:
        """Make what is called; its files go below a folder, which the parent removes."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries print of damaged input
        stay_below(folder)
        self._inputs = inputs
        self._target = target or TARGETS[inputs.name]
        self._call = self._target.make()

    def ready(self) -> None:
        """Return once the object is made."""

    def upto(self, first: int, seconds: float) -> tuple[int, Tried]:
        """Try inputs from a number on, for some seconds; return the first that was not tried."""
        end, tried, number = time.monotonic() + seconds, Tried(), first
        while time.monotonic() < end:
            self.one(number, tried)
            number += 1
        return number, tried

    def through(self, first: int, last: int) -> Tried:
        """Try the inputs from one number up to another."""
        tried = Tried()
        for number in range(first, last):
            self.one(number, tried)
        return tried

    def one(self, number: int, tried: Tried | None = None) -> Tried:
        """Try one input."""
        tried = Tried() if tried is None else tried
        kind, data, names = self._inputs(number, self._target)
        begin = time.monotonic()
        try:
            outcome = self._call(kind, data)
        except BaseException as error:
            outcome = "raised"
            last = traceback.extract_tb(error.__traceback__)[-1]
            # A message may quote the input.
            text = str(error).encode("ascii", "replace").decode()[:300]
            what = f"{type(error).__name__} at {last.filename[-60:]}:{last.lineno}: {text}"
            tried.finds.append(Find(self._inputs.name, number, kind, names, what))
        if (took := time.monotonic() - begin) > self._target.slow:
            what = f"slow: {took:.1f} s"
            tried.finds.append(Find(self._inputs.name, number, kind, names, what))
        tried.outcomes[kind, outcome] += 1
        return tried


def tried(
    inputs: Inputs, seconds: float, first: int = 0, target: Target | None = None,
    most: float = SECONDS,
) -> Tried:  # fmt: skip
    """Try inputs for some seconds of work; a process that dies or hangs is a find too."""
    known = target or TARGETS[inputs.name]
    found = Tried()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        child = Child(Trial, folder, inputs, target, memory=MEMORY)
        try:
            _ready(child)
            end, number = time.monotonic() + seconds, first
            while (left := end - time.monotonic()) > 0:
                try:
                    limit = _ROUND + most
                    number, more = child.ask("upto", number, min(left, _ROUND), seconds=limit)
                except LostError:
                    number, more = _searched(child, inputs, number, known, most)
                found.outcomes += more.outcomes
                found.finds += more.finds
        finally:
            child.kill()
    return found


def _ready(child: Child) -> None:
    """Wait until what is called is made; a busy machine may take longer than a child has for it."""
    for tries_left in reversed(range(_STARTS)):
        try:
            child.ask("ready", seconds=300.0)
        except LostError as lost:
            if lost.code != "timeout" or not tries_left:
                raise
        else:
            break


def _searched(
    child: Child, inputs: Inputs, number: int, target: Target, most: float
) -> tuple[int, Tried]:
    """Try inputs one at a time until one ends the process again; it is left out from then on."""
    found = Tried()
    _ready(child)
    for each in range(number, number + 10_000):
        try:
            more = child.ask("one", each, seconds=most)
        except LostError as lost:
            kind, _, names = inputs(each, target)
            found.outcomes[kind, lost.code] += 1
            found.finds.append(Find(inputs.name, each, kind, names, lost.code))
            _ready(child)
            return each + 1, found
        found.outcomes += more.outcomes
        found.finds += more.finds
    return number + 10_000, found
