"""The stream under kill -9, of all of it and of the Python workers alone, and under SIGTERM."""

import itertools
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from threading import Event, Thread

import psutil
import pytest

from tests import tiny_model


class Drops:
    """Digits under names of their own, written into the inbox in bursts, from a thread."""

    def __init__(self, home, digits, count, seed):
        self._home = home
        self._digits = digits
        self._random = random.Random(seed)
        self.names = [f"burst {n // 50:02d}/digit {n:04d}.png" for n in range(count)]
        self.left = self.names
        self.done = Event()
        self.stop = Event()

    def __enter__(self):
        for name in self.names:
            (self._home.settings.inbox / name).parent.mkdir(parents=True, exist_ok=True)
        self._thread = Thread(target=self._drop, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self._thread.join()

    def _drop(self):
        aside = self._home.settings.root / "aside.png"
        while self.left and not self.stop.wait(self._random.uniform(0.2, 2)):
            size = self._random.randint(20, 80)
            burst, self.left = self.left[:size], self.left[size:]
            for number, name in enumerate(burst):
                target = self._home.settings.inbox / name
                digit = self._random.choice(self._digits)
                if number % 2:
                    shutil.copyfile(digit, aside)
                    aside.rename(target)
                else:
                    shutil.copyfile(digit, target)
        self.done.set()


@pytest.fixture
def home(new_home):
    return new_home()


def test_the_program_is_killed_three_times_and_no_image_is_lost_or_told_twice(home, starter, until):
    moments = random.Random(20251121)
    with Drops(home, starter.digits, 1000, seed=1) as drops:
        for _ in range(3):
            before = min(home.count(), 999)  # all, where three starts take longer than the drops
            with home.running():  # which ends by SIGKILL
                until(lambda before=before: home.count() > before, 60)
                Event().wait(moments.uniform(0, 3))
        assert drops.done.wait(120)
    with home.running() as run:  # which then ends as a service does
        until(lambda: workers(psutil.Process(run.pid)), 60)
        for each in [*psutil.Process(run.pid).children(recursive=True), run]:
            each.terminate()
        assert run.wait(timeout=60) == 0, (home.settings.root / "run.err").read_text()
    last = home("run", "--once", "--metrics-port", "0")
    assert last.returncode == 0, last.stderr
    rows = home.table()
    assert rows.num_rows == 1000
    assert len(set(rows["event_id"].to_pylist())) == 1000
    assert set(rows["original_name"].to_pylist()) == set(drops.names)
    assert set(rows["status"].to_pylist()) == {"ok"}


def test_workers_are_killed_and_then_the_jvm_and_every_image_still_gets_its_answer(
    home, starter, until
):
    moments, killed = random.Random(20251122), Counter()
    with home.running() as run, Drops(home, starter.digits, 600, seed=2) as drops:
        program = psutil.Process(run.pid)
        # The first ones are those that tell Spark what the source is, then those that classify.
        while killed[TASKS] < 5:
            for worker, module in workers(program):
                with suppress(psutil.NoSuchProcess):
                    if module == TASKS or killed.total() < 3:
                        worker.kill()
                        killed[module] += 1
            drops.done.wait(moments.uniform(0.3, 1.5) if killed.total() > 2 else 0.01)
            assert run.poll() is None
        given = len(drops.names) - len(drops.left)
        until(lambda: home.count() >= given, 90)
        (jvm,) = (p for p in program.children() if "java" in p.name())
        jvm.kill()
        assert run.wait(timeout=30) == 1
        assert drops.done.wait(60)
    assert "Spark's JVM has ended" in (home.settings.root / "run.err").read_text()
    once_more = home("run", "--once", "--metrics-port", "0")
    assert once_more.returncode == 0, once_more.stderr
    rows = home.table()
    assert killed.total() > killed[TASKS]
    assert sorted(rows["original_name"].to_pylist()) == sorted(drops.names)
    assert set(rows["status"].to_pylist()) == {"ok"}


def test_a_worker_that_is_killed_in_a_burst_gives_back_what_it_had_taken(home, starter, until):
    burst, count = home.settings.staging / "burst", 8000
    burst.mkdir(parents=True)
    names = {f"digit {n:04d}.png" for n in range(count)}
    for name, digit in zip(names, itertools.cycle(starter.digits)):
        os.link(digit, burst / name)
    with home.running() as run:
        burst.rename(home.settings.inbox / "burst")
        scratch = home.settings.root / "tmp" / "run"
        until(lambda: any(each.stat().st_size for each in scratch.glob("turns-*")), 60)
        tasks = [w for w, module in workers(psutil.Process(run.pid)) if module == TASKS]
        busiest = max(tasks, key=lambda each: each.cpu_percent(0.1))
        assert home.count() < count
        busiest.kill()
        until(lambda: home.count() >= count, 90)
    rows = home.table()
    assert rows.num_rows == len(set(rows["event_id"].to_pylist())) == count
    assert {name.removeprefix("burst/") for name in rows["original_name"].to_pylist()} == names
    assert set(rows["status"].to_pylist()) == {"ok"}
    assert "in isolation" not in (home.settings.logs / "sightstream.log").read_text()


TASKS = "pyspark.worker"


def workers(program):
    """The processes that Spark's Python daemons forked, each with the module that it runs."""
    found = []
    for each in program.children(recursive=True):
        with suppress(psutil.Error):
            parent, line = each.parent(), each.cmdline()
            if parent and "-m" in line and parent.cmdline()[1:] == line[1:]:
                found.append((each, line[-1]))
    return found


@pytest.mark.parametrize("log", ["offsets", pytest.param("commits", marks=pytest.mark.slow)])
def test_what_a_kill_leaves_of_the_first_micro_batch_does_not_stop_the_next_start(
    tiny_home, tmp_path, log
):
    """Spark writes each file of a checkpoint aside, under such a name."""
    home = tiny_home()
    tiny_model.register(home.settings, "leaf", tmp_path / "leaf")
    left = home.settings.checkpoint("folder") / log / ".0.e176db05-f514-4996-a2c2-5923990af386.tmp"
    left.parent.mkdir(parents=True)
    left.touch()
    tiny_model.photograph(home.settings.inbox / "one.png", 250)
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert home.count() == 1


@pytest.mark.slow  # those of streaming.checkpoint are short, and chaos does the same
@pytest.mark.parametrize(("file", "cure"), [("offsets/1", "mv "), ("commits/1", "rm -f ")])
def test_half_a_file_of_the_checkpoint_is_told_with_a_command_after_which_all_goes_on(
    tiny_home, tmp_path, file, cure
):
    home = tiny_home(metrics_port=0)
    tiny_model.register(home.settings, "leaf", tmp_path / "leaf")
    for name in ("a.png", "b.png"):
        tiny_model.photograph(home.settings.inbox / name, 250)
        assert home("run", "--once").returncode == 0
    path = home.settings.checkpoint("folder") / file
    path.write_bytes(path.read_bytes()[:-5])
    for command, code in ((["doctor"], 1), (["run", "--once"], 6)):
        done = home(*command)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert f"{path} is damaged; " in said
        assert "Traceback" not in said
    (command,) = re.findall(rf"{cure}\S+(?: \S+\.old)?", said)
    subprocess.run(shlex.split(command), check=True)
    tiny_model.photograph(home.settings.inbox / "c.png", 250)
    done = home("run", "--once")
    assert done.returncode == 0, done.stderr
    assert sorted(home.table()["original_name"].to_pylist()) == ["a.png", "b.png", "c.png"]


@pytest.mark.slow
def test_run_once_that_is_interrupted_says_how_many_it_left_which_the_next_one_takes(
    tiny_home, tmp_path, until
):
    home = tiny_home(images_per_batch=100, metrics_port=0)
    tiny_model.register(home.settings, "leaf", tmp_path / "leaf")
    for number in range(800):
        tiny_model.photograph(home.settings.inbox / f"{number}.png", number % 250)
    with subprocess.Popen(
        [sys.executable, "-m", "sightstream", "run", "--once"], env=home.environment,
        stderr=subprocess.PIPE, text=True, cwd=home.settings.root,
    ) as run:  # fmt: skip
        until(lambda: home.count() > 0, 60)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=60)[1]
    count = home.count()
    assert count < 800
    assert said.splitlines()[-1] == f"800 images taken, {800 - count} of them left behind"
    done = home("run", "--once")
    assert done.stderr.splitlines()[-1] == f"{800 - count} images taken, 0 of them left behind"
    names = home.table()["original_name"].to_pylist()
    assert sorted(names) == sorted(f"{number}.png" for number in range(800))
