"""tests.chaos.schedule: the same seed is the same schedule, and less of it that still fails."""

import subprocess
import sys
from collections import Counter

import pytest

from tests.chaos import faults
from tests.chaos.__main__ import parts_of, table
from tests.chaos.run import Outcome
from tests.chaos.schedule import FIRST, LAST, plan, shrunk

GROUPS = {"kill": {"kill": (0.0, 0.0)}, "clock": {"back": (1.0, 2.0), "forth": (3.0, 4.0)}}


def test_a_schedule_is_a_function_of_its_seed():
    assert plan(7, 600, GROUPS) == plan(7, 600, GROUPS)
    assert plan(7, 600, GROUPS) != plan(8, 600, GROUPS)


def test_another_process_plans_the_same():
    code = (
        "from tests.chaos.schedule import plan; "
        "print(*plan(7, 90, {'kill': {'a': (0, 1), 'b': (0, 2)}, 'stop': {'c': (5, 9)}}), sep='|')"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": ".", "PYTHONHASHSEED": hashed},
            capture_output=True, check=True, text=True,
        ).stdout
        for hashed in "01"
    }  # fmt: skip
    assert len(said) == 1


def test_faults_follow_one_another_within_the_run_and_last_as_long_as_they_may():
    planned = plan(3, 600, GROUPS)
    ends = [FIRST, *(each.second + each.seconds for each in planned)]
    assert all(each.second >= end - 0.1 for each, end in zip(planned, ends, strict=False))
    assert all(each.second < 600 - LAST for each in planned)
    lasts = {name: span for group in GROUPS.values() for name, span in group.items()}
    assert all(lasts[p.name][0] <= p.seconds <= lasts[p.name][1] for p in planned)


def test_each_group_comes_before_any_comes_again():
    planned = [each.name for each in plan(5, 600, GROUPS)]
    for first, second in zip(planned[::2], planned[1::2], strict=False):
        assert "kill" in {first, second} != {"kill"}


def test_every_fault_has_a_name_of_its_own_and_a_length():
    assert all(name == each.name and each.lasts[0] <= each.lasts[1]
               for name, each in faults.ALL.items())  # fmt: skip


@pytest.mark.parametrize("culprits", [{3}, {0, 9}, {2, 3, 7}], ids=str)
def test_what_is_not_to_blame_is_left_out(culprits):
    asked = []

    def fails(some):
        asked.append(some)
        return culprits <= set(some)

    assert set(shrunk(range(10), fails, 100)) == culprits
    assert len(asked) < 60


def test_no_more_runs_are_made_than_allowed_and_the_result_still_fails():
    asked = []

    def fails(some):
        asked.append(some)
        return 9 in some

    assert 9 in shrunk(range(100), fails, 3)
    assert len(asked) == 3


def test_of_many_seeds_each_third_has_a_source_and_each_fifth_a_cluster():
    parts = [parts_of(seed) for seed in range(1, 31)]
    assert Counter(tuple(p for p in each if p in {"folder", "kafka"}) for each in parts) == {
        ("folder",): 10, ("kafka",): 10, ("folder", "kafka"): 10
    }  # fmt: skip
    assert sum("cluster" in each for each in parts) == 6
    assert all("kafka" in each for each in parts if "nodes" in each)


def test_the_table_counts_what_is_wrong_and_has_the_longest_pause_of_each_fault():
    right = Outcome(
        10, 10, 2, [], {"kill": 1.0, "none": 0.5}, ["folder"], {"kill": (2, 3)}, {"were deleted": 0}
    )
    wrong = Outcome(
        9, 9, 1, ["lost: a", "lost: b", "doubled: c", "late: d"], {"kill": 3.0}, [],
        {"kill": (1, 1), "stop": (0, 1)}, {"were deleted": 7},
    )  # fmt: skip
    lines = list(table({1: right, 2: wrong}))
    assert lines[1].split() == ["1", "10", "10", "0", "0", "0", "2", "folder"]
    assert lines[2].split() == ["2", "9", "9", "2", "1", "1", "1"]
    assert [each.strip() for each in lines[4:]] == [
        "3.0 s  kill (seed 2)", "0.5 s  none (seed 1)", "7 images were deleted",
        "faults that had an effect", "3 of   4  kill", "0 of   1  stop",
    ]  # fmt: skip
