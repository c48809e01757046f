"""Mutated input of every sort gets an answer or a sentence; what raises, dies or hangs is found.

A short part of `python -m tests.mutation`, which goes on for as long as it is told to.
"""

import os
import time

import pytest

from sightstream.scoring.child import Child
from tests.mutation import seeds
from tests.mutation.__main__ import row_of
from tests.mutation.targets import TARGETS, Target
from tests.mutation.trial import Find, Inputs, Trial, tried

COUNT = 120
"""Inputs of a target."""

SHORT = {"query": 12, "models": 30, "page": 40}
"""Fewer of those that take long."""


class All:
    """Every target in one process, whose imports take longer than the inputs."""

    def __init__(self, folder):
        self._folder = folder

    def through(self, name, count):
        target = TARGETS[name]
        inputs = Inputs(name, 1, target.seeds(), target.words)
        return Trial(self._folder, inputs).through(0, count)


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    made = Child(All, str(tmp_path_factory.mktemp("trials")))
    yield made
    made.kill()


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.alone])
def test_each_input_gets_an_answer_or_a_sentence(child, name):
    count = SHORT.get(name, COUNT)
    found = child.ask("through", name, count)
    assert found.finds == []
    outcomes = {outcome for _, outcome in found.outcomes}
    assert outcomes <= {"read", "refused"}
    assert found.outcomes.total() == count


def test_the_same_seed_gives_the_same_inputs_and_another_one_others():
    target = TARGETS["images/PNG"]

    def made(seed):
        inputs = Inputs("images/PNG", seed, target.seeds(), target.words)
        return [inputs(number, target) for number in range(50)]

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert len({data for _, data, _ in made(1)}) > 40


def faulty():
    return fault


def fault(kind, data):
    if kind == "dies":
        os._exit(3)
    if kind == "hangs":
        time.sleep(600)
    if kind == "raises":
        raise KeyError("nobody expects it")
    return "read"


def a_fault_each():
    return {kind: [kind.encode()] for kind in ("is fine", "dies", "raises", "hangs")}


def test_what_raises_dies_or_hangs_is_told_by_its_number_and_the_rest_goes_on():
    inputs = Inputs("faulty", 1, a_fault_each(), ())
    found = tried(inputs, 12.0, target=Target(faulty, a_fault_each, may_die=True), most=0.3)
    assert {find.kind for find in found.finds[:3]} == {"dies", "raises", "hangs"}
    what = {find.number: find.what.split(" at ")[0] for find in found.finds[:3]}
    assert what == {1: "crashed", 2: "KeyError", 3: "timeout"}
    assert found.outcomes["is fine", "read"] >= 2
    assert isinstance(found.finds[0], Find)


def test_the_row_of_an_image_is_what_the_stream_s_second_try_answers():
    (image, *_) = seeds.images()["PNG"]
    assert row_of(image) == "ok: None"
    assert row_of(image[: len(image) // 2]).startswith("truncated: ")
