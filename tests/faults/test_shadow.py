"""A shadow under a running stream: its swaps and faults cost the champion neither row nor time."""

import time
from threading import Event

import numpy as np
import pyarrow.compute as pc
import pytest

from sightstream.models.registry import Registry
from tests import tiny_model
from tests.drops import Drops

pytestmark = pytest.mark.slow

RATE = 20
"""Images a second."""

SWAPS = 50
SECONDS = 45
"""For which images arrive in a measurement."""

SLOWER = 1.2
"""Most of the champion's p95 alone that a faulty shadow may make of it."""


@pytest.fixture
def home(tiny_home, tmp_path):
    made = tiny_home(model="leaf")
    tiny_model.register(made.settings, "leaf", tmp_path / "leaf")
    return made


@pytest.fixture
def pictures(tmp_path):
    return [tiny_model.photograph(tmp_path / "pictures" / f"{b}.png", b) for b in (5, 250)]


def alias(home, number):
    client = Registry(home.settings.registry_address)._client
    client.set_registered_model_alias("leaf", "challenger", str(number))


def test_fifty_swaps_of_a_shadow_cost_no_image(home, pictures, tmp_path, figures, until):
    for number in (2, 3):
        tiny_model.challenge(home.settings, "leaf", tmp_path / str(number))
    shown = "sightstream_other_version", "challenger", "leaf"
    with home.running("--shadow", "leaf@challenger") as run:
        with Drops(home, pictures, RATE) as drops:
            until(lambda: home.count() >= 3 * RATE)
            for swap in range(SWAPS):
                alias(home, 2 + swap % 2)
                until(lambda swap=swap: figures(run).get(shown) == 2 + swap % 2)
            Event().wait(3)
        until(lambda: home.count() >= len(drops.names))
        counted = figures(run)
    rows = home.table()
    assert sorted(rows["original_name"].to_pylist()) == sorted(drops.names)
    assert set(rows["model_version"].to_pylist()) == {1}
    answered = [[o["label"] for o in also] for also in rows["also"].to_pylist()]
    labels = rows["label"].to_pylist()
    same = sum(each == [label] for each, label in zip(answered, labels, strict=True))
    print(f"{len(labels)} images, {same} of them answered by the shadow too")
    assert same >= 0.9 * len(labels)
    assert counted["sightstream_model_reloads_total", "failed"] == 0


@pytest.mark.parametrize("fault", ["raises", "hangs", "drags", "eats"])
def test_a_fault_of_a_shadow_costs_no_row_and_no_time(home, pictures, tmp_path, until, fault):
    tiny_model.challenge(home.settings, "leaf", tmp_path / "challenger", fault=fault)
    alone = latency(home, pictures, until)
    beside = latency(home, pictures, until, "--shadow", "leaf@challenger")
    print(f"p95 alone {alone:.3f} s, beside a shadow that {fault} {beside:.3f} s")
    assert beside <= SLOWER * alone


def latency(home, pictures, until, *flags):
    """The 95th percentile of seconds from arrival to row, once the stream has begun."""
    before, begin = home.count(), time.time()
    with home.running(*flags), Drops(home, pictures, RATE) as drops:
        until(lambda: home.count() > before)
        Event().wait(SECONDS)
        drops.__exit__()
        until(lambda: home.count() >= before + len(drops.names))
    rows = home.table()
    arrived = pc.cast(rows["event_time"], "int64").to_numpy() / 1e6
    rows = rows.filter(arrived > begin)
    assert rows.num_rows == len(drops.names)
    assert set(rows["status"].to_pylist()) == {"ok"}
    made, came = (
        pc.cast(rows[name], "int64").to_numpy() / 1e6 for name in ("processed_at", "event_time")
    )
    steady = came > came.max() - SECONDS
    return float(np.quantile((made - came)[steady], 0.95))
