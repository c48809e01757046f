"""Each frame a row, under kill -9: all frames of a file once, whenever it comes."""

import random
from collections import Counter
from dataclasses import replace
from threading import Event

import pytest

from tests import tiny_model
from tests.dicoms import dataset, saved, stack

FILES, FRAMES = 120, 20


@pytest.mark.slow
def test_a_stream_that_is_killed_three_times_gives_each_frame_one_row(tiny_home, tmp_path, until):
    home, moments = tiny_home(), random.Random(20261130)
    each = replace(tiny_model.PREPROCESSING, frame="each")
    tiny_model.register(home.settings, "leaf", tmp_path / "v1", preprocessing=each)
    home.settings.inbox.mkdir(parents=True, exist_ok=True)
    data = saved(dataset(stack(FRAMES), frames=FRAMES))
    aside = tmp_path / "aside.dcm"

    def drop(numbers):
        for number in numbers:
            aside.write_bytes(data)
            aside.rename(home.settings.inbox / f"{number}.dcm")

    for start in range(0, FILES, FILES // 3):
        before = home.count()
        with home.running():  # which ends by SIGKILL
            drop(range(start, start + FILES // 3))
            until(lambda before=before: home.count() > before, 60)
            Event().wait(moments.uniform(0, 1))
        rows = home.table().to_pylist()
        assert {*Counter(row["uri"] for row in rows).values()} == {FRAMES}
    last = home("run", "--once", "--metrics-port", "0")
    assert last.returncode == 0, last.stderr
    rows = home.table().to_pylist()
    assert len(rows) == FILES * FRAMES == len({row["event_id"] for row in rows})
    for name in {row["original_name"] for row in rows}:
        found = sorted(row["frame"] for row in rows if row["original_name"] == name)
        assert found == list(range(1, FRAMES + 1))
    assert {row["status"] for row in rows} == {"ok"}
