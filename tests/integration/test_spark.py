"""A Spark session that Ctrl-C interrupts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.runtime import spark

SCRIPT = """
import sys
import time
from pathlib import Path
from sightstream.runtime import spark

folder = Path(sys.argv[1])
session = spark.start("interrupted", folder / "home", "local[2]")
numbers = session.sparkContext.parallelize(range(2), 2)
try:
    numbers.map(lambda n: ((folder / f"began-{n}").touch(), time.sleep(600))).count()
except KeyboardInterrupt:
    print("interrupted", numbers.count())
    import pyspark
    print({pyspark.__file__} == set(numbers.map(lambda _: pyspark.__file__).collect()))
spark.stop(session)
"""

WORKER = """
import resource
from sightstream.runtime.worker import at_work

with at_work():
    freed = [b"x" * 50_000 for _ in range(4000)]
    kept = [b"x" * 50_000]  # lies behind them: else all would be given back at once
    del freed
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)  # KiB, at most
input()
"""


def jvms(folder):
    """What runs, from the script that begins it on, with its scratch folder below this one."""
    told = [(each, each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
    return [each for each, line in told if f"spark.local.dir={folder}" in " ".join(line)]


def test_ctrl_c_during_its_start_leaves_no_jvm(tmp_path, until):
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: jvms(tmp_path), 60)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60)
            until(lambda: not jvms(tmp_path), 30)
        finally:
            process.kill()
            for left in jvms(tmp_path):
                left.kill()


def test_ctrl_c_ends_a_job_and_leaves_a_session_that_works(tmp_path, until):
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            until(lambda: all((tmp_path / f"began-{n}").exists() for n in range(2)), 60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "interrupted 2\nTrue\n"), err


def test_a_worker_at_rest_gives_memory_back(until):
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert int(process.stdout.readline()) > 200_000
        worker = psutil.Process(process.pid)
        until(lambda: worker.memory_info().rss < 100e6, 10)
        process.communicate("\n", timeout=10)
    assert process.returncode == 0


def test_a_home_whose_path_spark_would_cut_is_refused_before_anything_is_written(tmp_path):
    home = tmp_path / "Smith, John" / "home"
    with pytest.raises(EnvironmentUnfitError, match=r"Smith, John/home has a comma, which Spark"):
        spark.start("refused", home, "local[1]")
    assert not [*tmp_path.iterdir()]
