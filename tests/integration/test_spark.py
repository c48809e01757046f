"""A Spark session that Ctrl-C interrupts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import time
from pathlib import Path
from sightstream import config, spark

folder = Path(sys.argv[1])
session = spark.start(config.Settings(home=folder / "home"), "interrupted")
numbers = session.sparkContext.parallelize(range(2), 2)
try:
    numbers.map(lambda n: ((folder / f"began-{n}").touch(), time.sleep(600))).count()
except KeyboardInterrupt:
    print("interrupted", numbers.count())
spark.stop(session)
"""


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
    assert (process.returncode, out) == (0, "interrupted 2\n"), err
