"""Importing sightstream changes nothing for the process, and brings in little."""

import json
import subprocess
import sys

LOOK = """
import json, os, pkgutil, signal, sys, warnings

def state():
    handlers = {s.name: repr(signal.getsignal(s)) for s in signal.Signals}
    return dict(os.environ), [repr(each) for each in warnings.filters], handlers

before = state()
import sightstream
small, untouched = sorted(sys.modules), before == state()
import numpy  # which adds filters of its own
from PIL import Image
before = state()
bound = Image.MAX_IMAGE_PIXELS
names = [m.name for m in pkgutil.walk_packages(sightstream.__path__, "sightstream.")]
names = [n for n in names if not n.endswith("__main__")]
for name in names:
    __import__(name)
kept = {f: a == b for f, a, b in zip(("environment", "filters", "signals"), before, state())}
kept["all"] = untouched
kept["bound"] = bound == Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
print(json.dumps({"small": small, "kept": kept, "names": names, "all": sorted(sys.modules)}))
"""
HEAVY = {"tensorflow", "keras", "mlflow", "pyspark", "duckdb", "matplotlib", "onnxruntime"}


def test_importing_every_module_leaves_the_process_as_it_was():
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=120
    )
    seen = json.loads(done.stdout)
    assert "sightstream.models.registry" in seen["names"]
    assert seen["kept"] == dict.fromkeys(seen["kept"], True)
    assert not HEAVY & set(seen["all"])
    assert not (HEAVY | {"numpy", "pandas", "PIL", "pyarrow", "pydantic"}) & set(seen["small"])


def test_what_reads_dicom_waits_for_the_first_one():
    look = "import sys, sightstream.images.decode; print([n for n in sys.modules if 'dicom' in n])"
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_what_workers_import_reads_no_settings():
    look = (
        "import sys, sightstream.scoring.udf, streaming.workers, streaming.folder.assignment; "
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
