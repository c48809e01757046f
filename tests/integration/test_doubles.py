"""doubles: rows are in the table once, whoever merges its files at the same time."""

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from sightstream import config
from sightstream.cli import doctor
from sightstream.errors import EnvironmentUnfitError
from sightstream.tables import doubles, predictions
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from streaming.observe import probes

NOW = datetime.now(UTC)
DAY = str(NOW.date())


def rows(*event_ids, day=NOW):
    required = {"source": "folder", "status": "ok", "processed_at": NOW, "date": day.date()}
    return pa.Table.from_pylist([{"event_id": each} | required for each in event_ids], ROW)


@pytest.fixture
def path(tmp_path):
    return config.Settings(home=tmp_path).predictions


@pytest.fixture
def table(path, monkeypatch):
    monkeypatch.setattr(predictions, "LOOK", 0.0)
    made = Predictions(path)
    for batch in range(3):
        made.append(rows(f"{batch}-a", f"{batch}-b"), "app", batch)
    return made


def ids(path):
    return sorted(DeltaTable(path).to_pyarrow_table(columns=["event_id"])["event_id"].to_pylist())


SIX = [f"{batch}-{letter}" for batch in range(3) for letter in "ab"]


def double(path, *merges):
    """Merge the same files twice, or so often as there are merges."""
    opened = [DeltaTable(path) for _ in merges]
    for merge, each in zip(merges, opened, strict=True):
        merge(each)


def compact(table):
    return table.optimize.compact()


def z_order(table):
    return table.optimize.z_order(["event_id"])


@pytest.mark.parametrize("merges", [(compact, compact), (z_order, compact), (compact, z_order)])
def test_files_that_others_merged_twice_are_put_right(table, path, merges, caplog):
    double(path, *merges)
    assert len(ids(path)) == 12  # where this fails, delta-rs refuses the second by now
    table.append(rows("after"), "app", 3)
    table.maintain(quiet=False)
    assert ids(path) == [*SIX, "after"]
    assert table.copies == 6
    assert "6 rows were in the table twice" in caplog.text
    assert dict(probes.copies(table)) == {"table_copies": 6}


def test_files_merged_three_times_and_then_together_are_put_right(table, path):
    double(path, compact, compact, z_order)
    compact(DeltaTable(path))
    table.maintain(quiet=False)
    assert ids(path) == SIX


def test_what_was_doubled_while_no_stream_ran_is_put_right_at_the_next_start(table, path):
    table.maintain(quiet=True)
    table.append(rows("x"), "app", 3)
    table.append(rows("y"), "app", 4)
    double(path, compact, compact)
    Predictions(path).maintain(quiet=False)
    assert ids(path) == [*SIX, "x", "y"]


@pytest.mark.parametrize(
    "first", [compact, z_order, lambda table: table.delete("event_id = '0-a'")]
)
def test_our_own_merge_gives_way_where_another_job_took_the_files(table, path, monkeypatch, first):
    opened = DeltaTable(path)
    with monkeypatch.context() as late:
        late.setattr("deltalake.DeltaTable", lambda _: opened)
        first(DeltaTable(path))
        before = DeltaTable(path).version()
        table._merge()
    assert DeltaTable(path).version() == before
    assert len(ids(path)) == len(set(ids(path)))
    left = ids(path)
    table.append(rows("x"), "app", 3)
    table._merge()
    assert len(DeltaTable(path).file_uris()) == 1
    assert ids(path) == [*left, "x"]


def test_a_merge_of_others_that_began_before_ours_is_put_right(table, path):
    opened = DeltaTable(path)
    assert table.maintain(quiet=True)
    compact(opened)
    table.maintain(quiet=True)
    assert ids(path) == SIX
    assert table.copies == 6


def test_only_copies_are_left_out_and_only_of_the_day_that_was_merged(table, path):
    again = rows("0-a").set_column(
        ROW.get_field_index("processed_at"), ROW.field("processed_at"),
        pa.array([NOW + timedelta(hours=1)], ROW.field("processed_at").type),
    )  # fmt: skip
    table.append(again, "app", 3)  # the id arrived again, long after
    table.append(rows("old", day=NOW - timedelta(1)), "app", 4)
    double(path, compact, compact)
    before = predictions.version(path)
    table.maintain(quiet=False)
    assert ids(path) == sorted([*SIX, "0-a", "old"])
    assert predictions.added(path, before + 1) == []


def test_what_others_made_of_a_row_is_kept(table, path):
    double(path, compact, compact)
    DeltaTable(path).update({"error_detail": "'seen'"}, predicate="event_id = '1-a'")
    DeltaTable(path).delete("event_id = '1-b'")
    table.maintain(quiet=False)
    assert ids(path) == sorted(set(SIX) - {"1-b"})
    found = {row["event_id"]: row["error_detail"] for row in chain(*predictions.since(path, NOW))}
    assert found == dict.fromkeys(set(SIX) - {"1-a", "1-b"}) | {"1-a": "seen"}


@pytest.mark.parametrize("late", [compact, z_order])
@pytest.mark.parametrize("again", [False, True])
def test_a_late_merge_brings_back_nothing_that_others_changed(table, path, late, again):
    opened = DeltaTable(path)
    compact(DeltaTable(path))
    DeltaTable(path).update({"error_detail": "'seen'"}, predicate="event_id = '1-a'")
    DeltaTable(path).delete("event_id in ('1-b', '2-a')")
    table.append(rows("x"), "app", 3)
    late(opened)  # of the files as they were at first
    if again:
        table.append(rows("y"), "app", 4)
    table.maintain(quiet=again)
    assert ids(path) == sorted({*SIX, "x", *("y" * again)} - {"1-b", "2-a"})
    found = {row["event_id"]: row["error_detail"] for row in chain(*predictions.since(path, NOW))}
    assert {each for each, detail in found.items() if detail} == {"1-a"}


def test_rows_that_a_merge_found_twice_are_kept_once(table, path):
    first, second = DeltaTable(path), DeltaTable(path)
    compact(first)
    compact(second)
    late = DeltaTable(path)  # which has each row twice
    table._leave_out_copies()
    compact(late)
    table.maintain(quiet=False)
    assert ids(path) == SIX


def test_a_merge_of_files_that_were_restored_loses_nothing(table, path):
    before = predictions.version(path)
    compact(DeltaTable(path))
    DeltaTable(path).restore(before)
    compact(DeltaTable(path))
    entry = Path(path, "_delta_log", f"{predictions.version(path):020d}.json")
    entry.write_text(re.sub(r'"readVersion":"?\d+"?,?', "", entry.read_text()))
    table.maintain(quiet=False)
    assert ids(path) == SIX


def test_a_look_at_merges_that_did_not_meet_changes_nothing(table, path):
    compact(DeltaTable(path))
    table.append(rows("x"), "app", 3)
    compact(DeltaTable(path))
    before = predictions.version(path)
    table.maintain(quiet=False)
    assert predictions.version(path) == before
    assert not any(doubles.double(path, version) for version in range(before + 1))


def test_looks_at_our_own_commits_cost_nothing(table, path, monkeypatch):
    table.maintain(quiet=False)
    monkeypatch.setattr(doubles, "double", lambda *_: pytest.fail("a commit of ours was read"))
    for batch in range(3, 9):
        table.append(rows(str(batch)), "app", batch)
        table.maintain(quiet=False)


def test_doctor_tells_of_copies(table, path, tmp_path):
    settings = config.Settings(home=tmp_path)
    assert doctor.CHECKS["predictions"](settings) == "6 rows, 0 of them rejected"
    double(path, compact, compact)
    with pytest.raises(EnvironmentUnfitError, match=r"6 rows of .* are there twice"):
        doctor.CHECKS["predictions"](settings)


HOME = """
import sys, time
from sightstream.tables import predictions
from tests.integration.test_doubles import rows
predictions.LOOK = 0.2
name, table, deadline = sys.argv[1], predictions.Predictions(sys.argv[2]), time.time() + 15
batch = 0
while time.time() < deadline:
    table.append(rows(*(f"{name}-{batch}-{n}" for n in range(5))), name, batch)
    batch += 1
    if batch % 4 == 0:
        table.maintain(quiet=True)
print(batch)
"""

NEIGHBOUR = """
import sys, time
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
deadline, number, deleted = time.time() + 15, 0, 0
while time.time() < deadline:
    number += 1
    try:
        table = DeltaTable(sys.argv[1])
        if number % 3 == 0:
            name = f"one-{number}-0"
            deleted += bool(table.delete(f"event_id = '{name}'")["num_deleted_rows"])
        elif number % 3 == 1:
            table.optimize.z_order(["event_id"])
        else:
            table.optimize.compact()
    except (DeltaError, OSError):
        pass  # it conflicted, as such jobs must expect
print(deleted)
"""


@pytest.mark.timeout(120)
def test_two_homes_and_a_neighbour_that_merge_in_a_loop_leave_each_row_once(tmp_path, monkeypatch):
    path, root = str(tmp_path / "predictions"), Path(__file__).parents[2]
    Predictions(path)

    def begun(code, *arguments):
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments, path],
            env={"PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    homes = [begun(HOME, "one"), begun(HOME, "two")]
    neighbour = begun(NEIGHBOUR)
    batches = [int(home.communicate()[0]) for home in homes]
    deleted = int(neighbour.communicate()[0])
    monkeypatch.setattr(predictions, "LOOK", 0.0)
    Predictions(path).maintain(quiet=False)
    found = Counter(ids(path))
    assert max(found.values()) == 1
    assert len(found) == 5 * sum(batches) - deleted
    assert min(batches) > 10
