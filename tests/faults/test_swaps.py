"""The stream under fifty champions in a row: no image is lost, no pause, no memory kept."""

from contextlib import suppress
from statistics import median
from threading import Event

import psutil
import pyarrow.compute as pc
import pytest

from tests.drops import Drops

pytestmark = pytest.mark.slow

SWAPS = 50
RATE = 20
"""Images a second."""

VERSIONS = 3
"""Taken in turn. Workers keep two, so that each of three has to be loaded each time."""

MEMORY = range(10, SWAPS + 1, 10)
"""The swaps after which the memory is measured."""


@pytest.fixture
def home(new_home):
    return new_home(own_registry=True)


@pytest.fixture
def registry(home):
    """Holds the starter under several versions, of which the first is the champion."""
    return home.publish_copies(VERSIONS - 1)


def test_fifty_swaps_cost_no_image_no_time_and_no_memory(
    home, registry, starter, figures, until, capsys
):
    def reloads(run):
        # To answer a scrape takes time from the stream that is measured.
        Event().wait(0.25)
        assert run.poll() is None
        return figures(run)["sightstream_model_reloads_total", "loaded"]

    memory = {}
    with home.running() as run:
        with Drops(home, starter.digits, RATE) as drops:
            until(lambda: home.count() >= 5 * RATE, 60)
            for swap in range(1, SWAPS + 1):
                registry.promote("starter", 1 + swap % VERSIONS)
                until(lambda swap=swap: reloads(run) >= swap)
                if swap in MEMORY:
                    memory[swap] = settled(run)
        until(lambda: home.count() >= len(drops.names))
        failed = figures(run)["sightstream_model_reloads_total", "failed"]
        swaps = reloads(run)

    rows = home.table().sort_by("batch_id")
    at_swap, otherwise = durations(rows)
    slower = median(at_swap) / median(otherwise)
    with capsys.disabled():
        print(f"\n{rows.num_rows} images, {swaps:.0f} swaps, {len(at_swap)} seen in the rows")
        for name, seconds in {"at a swap": at_swap, "others": otherwise}.items():
            p95 = sorted(seconds)[int(0.95 * len(seconds))]
            late = sum(s > 1.5 * median(otherwise) for s in seconds) / len(seconds)
            print(f"micro-batches {name}: median {median(seconds):.3f} s, 95 % {p95:.3f} s, "
                  f"longest {max(seconds):.3f} s, {late:.0%} above 1.5 medians")  # fmt: skip
        print(f"ratio of the medians: {slower:.2f}")
        print({f"MiB after swap {swap}": round(taken) for swap, taken in memory.items()})

    assert sorted(rows["original_name"].to_pylist()) == sorted(drops.names)
    assert len(set(rows["event_id"].to_pylist())) == rows.num_rows
    assert set(rows["status"].to_pylist()) == {"ok"}
    assert set(rows["model_version"].to_pylist()) == set(range(1, VERSIONS + 1))
    assert (swaps, failed, len(at_swap)) == (SWAPS, 0, SWAPS)
    assert slower <= 1.5
    assert memory[SWAPS] <= 1.1 * memory[10]


def durations(rows):
    """Seconds from micro-batch to micro-batch: of those that a new version began with, and others.

    Images arrive faster than micro-batches end, so that there is no rest between two of them.
    """
    batches = rows.group_by("batch_id", use_threads=False).aggregate(
        [("processed_at", "min"), ("model_version", "min"), ("model_version", "max")]
    )
    assert pc.all(pc.equal(batches["model_version_min"], batches["model_version_max"])).as_py()
    ends = pc.cast(batches["processed_at_min"], "int64").to_pylist()
    versions = batches["model_version_min"].to_pylist()
    at_swap, otherwise = [], []
    for number in range(1, len(ends)):
        changed = versions[number] != versions[number - 1]
        (at_swap if changed else otherwise).append((ends[number] - ends[number - 1]) / 1e6)
    return at_swap, otherwise


def settled(run):
    """MiB of the process tree, the median of a few looks; shared pages are counted once."""
    taken = []
    for _ in range(3):
        Event().wait(0.3)
        taken.append(0)
        for each in (root := psutil.Process(run.pid), *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                taken[-1] += each.memory_full_info().pss / 2**20
    return median(taken)
