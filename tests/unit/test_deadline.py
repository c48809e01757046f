"""sightstream.runtime.worker.end_in: a worker that hangs in C ends, and nobody else does."""

import os
import signal
import subprocess
import sys

import pytest

HANG = "import ctypes; ctypes.PyDLL(None).pause()"  # which keeps Python's lock

AT_WORK = f"""
from sightstream.runtime.worker import at_work, end_in

with at_work():
    {{before}}
    end_in({{seconds}})
    {HANG}
"""

ELSEWHERE = """
import time
from sightstream.runtime.worker import at_work, end_in

end_in(0.05)
time.sleep(0.2)
with at_work():
    end_in(0.05)
    end_in(0)
    time.sleep(0.2)
    end_in(600)
end_in(0.05)
time.sleep(0.2)
print("alive")
"""


def run(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


@pytest.mark.parametrize("before", ["pass", "end_in(0)", "end_in(600)"])
def test_code_in_c_that_never_returns_is_ended(before):
    assert run(AT_WORK.format(before=before, seconds=0.2)).returncode == -signal.SIGALRM


def test_it_is_ended_in_the_second_task_too():
    script = AT_WORK.format(before="pass", seconds=0.2)
    first = "from sightstream.runtime.worker import at_work\nwith at_work(): pass\n"
    assert run(first + script).returncode == -signal.SIGALRM


def test_what_is_called_off_or_is_no_task_of_ours_goes_on():
    done = run(ELSEWHERE)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


LOADING = f"""
from sightstream.images.decode import Preprocessing
from sightstream.images.limits import Limits
from sightstream.models.version import ServedModel
from sightstream.runtime.worker import at_work
from sightstream.scoring import udf

class Model(ServedModel):
    def load(self):
        {HANG}

udf.LOADING = 0.2
model = Model("tiny", 1, ("a", "b"), Preprocessing(8, 8), "onnx", b"")
with at_work():
    udf.Answering(udf.Pickled(model), Limits(), 2).prepare_worker()
"""


def test_a_model_that_hangs_while_a_worker_loads_it_is_ended():
    assert run(LOADING).returncode == -signal.SIGALRM
