"""A backfill under kill -9 and Ctrl-C: the same command goes on, and each image gets one row."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from deltalake import DeltaTable

from tests import tiny_model
from tests.conftest import end_session

COUNT = 12_000


@pytest.fixture
def home(tiny_home, tmp_path):
    made = tiny_home()
    tiny_model.register(made.settings, "leaf", tmp_path / "v1")
    photo = tiny_model.photograph(tmp_path / "photo.png", 250)
    (tmp_path / "photos").mkdir()
    for number in range(COUNT):
        os.link(photo, tmp_path / "photos" / f"{number}.png")
    return made


class Running:
    """A backfill that has begun, in a session of its own."""

    def __init__(self, home, folder):
        self._err = (home.settings.root / "backfill.err").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sightstream", "backfill", folder, "--json"],
            env=os.environ | {"SIGHTSTREAM_HOME": str(home.settings.root)},
            cwd=Path.cwd(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._err,
            start_new_session=True, text=True,
        )  # fmt: skip

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        end_session(self.process)  # by SIGKILL
        self._err.close()


def count(home):
    path = home.settings.predictions
    return DeltaTable(path).count() if DeltaTable.is_deltatable(path) else 0


def test_killed_before_and_after_its_first_commits_and_interrupted_it_makes_each_row_once(
    home, tmp_path, until
):
    moments, photos = random.Random(20261128), tmp_path / "photos"
    plans = home.settings.root / "backfill"
    with Running(home, photos):
        until(lambda: list(plans.glob("*/events.arrow")))
    with Running(home, photos):
        until(lambda: list(plans.glob("*/plan.json")))
        Event().wait(moments.uniform(0, 3))
    (plan,) = plans.glob("*/plan.json")
    planned = json.loads(plan.read_text())
    assert planned["images"] == COUNT
    for _ in range(2):
        before = count(home)
        with Running(home, photos):
            until(lambda before=before: count(home) > before or not plan.exists(), 120)
            Event().wait(moments.uniform(0, 0.3))
    if plan.exists():
        assert json.loads(plan.read_text()) == planned  # all of them went on with one plan
    with Running(home, photos) as process:
        until(lambda: list(home.settings.root.glob("tmp/backfill-*")) or not plan.exists(), 120)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
        assert process.returncode in {0, 1, -signal.SIGINT}, out  # the last: while Spark starts
    done = home("backfill", photos, "--json")
    assert done.returncode == 0, done.stderr
    ids = DeltaTable(home.settings.predictions).to_pyarrow_dataset().to_table(["event_id"])
    assert ids.num_rows == COUNT
    assert len(set(ids["event_id"].to_pylist())) == COUNT
    assert not list(plans.glob("*/plan.json"))
