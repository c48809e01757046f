"""The stream under images and models that hang or die: each costs its own row, and little time."""

import os
from contextlib import contextmanager

import pytest

from tests import tiny_model

PLUGIN = """
import ctypes, os, signal
from PIL import Image
from sightstream.images.formats import Format

def fail(file):
    kind = file.read()[5:]
    if kind == b"hangs":
        ctypes.PyDLL(None).pause()  # in C, with Python's lock
    if kind == b"dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    return Image.new("RGB", (8, 8))

def count(data, _most):
    if data[5:] == b"counts":
        ctypes.PyDLL(None).pause()
    return 1

FAULTY = Format("FAULTY", rb"FAULT", fail, lambda _: False, frames=count)
"""

SECONDS = 2.0


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs a format of another package, whose files hang or end what decodes them."""
    site = tmp_path / "site"
    info = site / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "faulty_format.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sightstream.formats]\nfaulty=faulty_format:FAULTY\n")
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture
def home(tiny_home, tmp_path, plugin):
    made = tiny_home(model="leaf", image_seconds=SECONDS, metrics_port=0)
    tiny_model.register(made.settings, "leaf", tmp_path / "leaf")
    return made


def drop(home, good, **bad):
    """Drops bright images, and faulty ones by name and kind, all at once."""
    burst = home.settings.staging / "burst"
    burst.mkdir(parents=True)
    first = tiny_model.photograph(burst / "0000.png", 250)
    for number in range(1, good):
        os.link(first, burst / f"{number:04d}.png")
    for name, kind in bad.items():
        (burst / f"{name}.faulty").write_bytes(b"FAULT" + kind)
    burst.rename(home.settings.inbox / "burst")


def outcomes(home):
    rows = home.table().to_pylist()
    return {
        row["original_name"].removeprefix("burst/").removesuffix(".faulty"): row for row in rows
    }


@contextmanager
def timed(home):
    """Yields what tells the seconds from the first arrival to the last row."""

    def seconds():
        rows = home.table().to_pylist()
        begin = min(row["event_time"] for row in rows)
        return (max(row["processed_at"] for row in rows) - begin).total_seconds()

    yield seconds


def require_good(home, rows, good):
    for number in range(good):
        row = rows.pop(f"{number:04d}.png")
        assert (row["status"], row["label"]) == ("ok", "bright")


@pytest.mark.parametrize(("fault", "code"), [(b"hangs", "timeout"), (b"dies", "crashed")])
def test_an_image_that_hangs_or_dies_costs_its_own_row(home, until, fault, code):
    with home.running():
        home.settings.inbox.mkdir(exist_ok=True)
        drop(home, 400, one=fault)
        until(lambda: home.count() == 401, 60)
    rows = outcomes(home)
    require_good(home, rows, 400)
    assert [(name, row["error_code"]) for name, row in rows.items()] == [("one", code)]
    with timed(home) as seconds:
        print(f"{fault.decode()}: {seconds():.1f} s for 401 images")
        assert seconds() < 2 * SECONDS + 12
    said = (home.settings.logs / "sightstream.log").read_text()
    assert "in isolation" not in said
    assert rows["one"]["error_detail"] in said


@pytest.mark.slow
def test_few_images_and_no_further_attempt_end_the_same(home, until):
    """`local[2]` gives a task one attempt: the driver isolates."""
    home.settings.inbox.mkdir(exist_ok=True)
    drop(home, 6, slow=b"hangs", dead=b"dies")
    done = home("run", "--once", "--master", "local[2]")
    assert done.returncode == 0, done.stderr
    rows = outcomes(home)
    require_good(home, rows, 6)
    assert {name: row["error_code"] for name, row in rows.items()} == {
        "slow": "timeout", "dead": "crashed"
    }  # fmt: skip
    assert "in isolation" in (home.settings.logs / "sightstream.log").read_text()


def test_a_model_that_hangs_on_an_image_is_ended_too(home, tmp_path):
    """It answers for grey images, and hangs for others."""
    tiny_model.register(home.settings, "stuck", tmp_path / "stuck", fault="hangs")
    for number, brightness in enumerate((128, 250, 128)):
        tiny_model.photograph(home.settings.inbox / f"{number}.png", brightness)
    done = home("run", "--once", "--model", "stuck")
    assert done.returncode == 0, done.stderr
    rows = outcomes(home)
    assert {name: row["error_code"] or row["label"] for name, row in rows.items()} == {
        "0.png": "grey", "1.png": "timeout", "2.png": "grey"
    }  # fmt: skip
    assert rows["1.png"]["format"] is None
    assert rows["1.png"]["error_detail"] == "It was not classified within 2 seconds."
