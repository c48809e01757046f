"""The Python of Spark's workers, started as Spark starts it."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

INSTALLED = Path(find_spec("pyspark").origin)
TELL = "import pyspark, sys; print(__name__, pyspark.__file__, sys.argv[1:])"


def test_what_is_installed_comes_before_sparks_archives(tmp_path):
    archive = INSTALLED.parent / "python" / "lib" / "pyspark.zip"
    assert archive.exists()
    (tmp_path / "tell.py").write_text(TELL)
    done = subprocess.run(
        [Path(sys.executable).with_name("sightstream-python"), "-m", "tell", "more"],
        env={**os.environ, "PYTHONPATH": f"{archive}{os.pathsep}{tmp_path}"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"__main__ {INSTALLED} ['more']\n", done.stderr
