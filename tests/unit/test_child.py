"""sightstream.scoring.child: what it is allowed, and how it ends, also when its parent is gone."""

import os
import signal
import subprocess
import sys
import time
from threading import Thread

import psutil
import pytest

from sightstream.errors import ConfigError
from sightstream.scoring.child import Child, LostError


class Work:
    """What a child may be asked."""

    def memory(self, count):
        return len(bytearray(count))

    def hang(self):
        time.sleep(600)

    def burn(self, seconds):
        begin = time.process_time()
        while time.process_time() < begin + seconds:
            pass
        return "burnt"


class Unfit:
    """What cannot be made."""

    def __init__(self):
        raise ConfigError("it does not load")


@pytest.fixture
def child():
    made = Child(Work, memory=2**28)
    yield made
    made.kill()


def test_it_has_no_more_memory_than_it_may(child):
    assert child.ask("memory", 2**20) == 2**20
    with pytest.raises(RuntimeError):
        child.ask("memory", 2**29)
    assert child.ask("memory", 1) == 1


def test_one_that_hangs_is_ended_at_once_from_another_thread(child):
    child.ask("memory", 1)
    lost = []

    def hang():
        try:
            child.ask("hang")
        except LostError as error:
            lost.append(error.code)

    thread = Thread(target=hang)
    thread.start()
    while not lost:
        child.kill()
        thread.join(0.05)
    assert lost == ["crashed"]
    assert child.ask("memory", 3) == 3


PARENT = """
from sightstream.scoring.child import Child
from tests.unit.test_child import Work

child = Child(Work)
child.ask("memory", 1)
print(child._running[0].pid, flush=True)
child.ask("hang", seconds=1.0)
"""


def test_one_that_hangs_does_not_outlive_its_parent_for_long():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with parent:
        process = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    process.wait(20)


STOPPED = """
from sightstream.scoring.child import Child
from tests.unit.test_child import Work

child = Child(Work)
child.start()
print(child._running[0].pid, flush=True)
print(child.ask("burn", 0.4, seconds=1.0), flush=True)
"""


@pytest.mark.parametrize("seconds", [2, 8], ids=["shorter", "longer than its own clock"])
def test_time_in_which_both_stand_still_does_not_count(seconds):
    parent = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with parent:
        both = psutil.Process(int(parent.stdout.readline())), psutil.Process(parent.pid)
        for each in both:
            each.suspend()
        time.sleep(seconds)
        for each in reversed(both):
            each.resume()
        assert parent.stdout.readline() == "burnt\n"


def test_one_that_hangs_is_lost_in_time(child):
    child.start()
    begin = time.monotonic()
    with pytest.raises(LostError) as lost:
        child.ask("hang", seconds=1.5)
    assert (lost.value.code, str(lost.value)) == (
        "timeout", "It was not classified within 1.5 seconds."
    )  # fmt: skip
    assert 1.4 < time.monotonic() - begin < 4
    assert child.ask("memory", 1) == 1


def test_what_cannot_be_made_is_told_at_the_start_and_leaves_no_process():
    unfit, before = Child(Unfit), {*psutil.Process().children()}
    for _ in range(2):
        with pytest.raises(ConfigError, match="it does not load"):
            unfit.start()
    left = {*psutil.Process().children()} - before
    assert not [each for each in left if "spawn_main" in " ".join(each.cmdline())]
