"""Upkeep by two processes: no version of the table has a row twice, or lacks one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from sightstream.tables import delta, merging
from sightstream.tables.predictions import Predictions
from tests import objects
from tests.integration.test_doubles import rows

MERGES = 5
"""Merges by each of two homes; a home that has as many adds rows until the others have, too."""

HOME = """
import os, sys
from sightstream.tables import predictions
from tests.integration.test_doubles import rows

name, path, wanted, done = sys.argv[1:]
predictions.LOOK = float("inf")  # copies stay
table = predictions.Predictions(path)
batch = merged = 0
while len(os.listdir(done)) < 2:
    table.append(rows(*(f"{name}-{batch}-{n}" for n in range(5))), name, batch)
    batch += 1
    if int(wanted) and batch % 3 == 0:
        merged += table.maintain(quiet=True)
        if merged >= int(wanted):
            open(os.path.join(done, name), "w").close()
print(batch)
"""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with objects.client(tmp_path_factory.mktemp("objects"), "tables"):
        yield "s3://tables"


@pytest.fixture(params=["folder", "partitioned by label", "store"])
def path(request, tmp_path):
    if request.param == "store":
        path = f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    else:
        path = str(tmp_path / "predictions")
    Predictions(path)
    if request.param == "partitioned by label":
        empty, again = DeltaTable(path).to_pyarrow_table(), {"schema_mode": "overwrite"}
        write_deltalake(path, empty, mode="overwrite", partition_by=["date", "label"], **again)
    return path


def home(path, name, merges, done):
    return subprocess.Popen(
        [sys.executable, "-c", HOME, name, path, str(merges), done],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def counts(path):
    """The rows that each version has in its files, and those that were added until then."""
    store, files, arrived = delta.store(path), {}, 0
    for version in range(DeltaTable(path).version() + 1):
        for action in delta.commit(store, version):
            if add := action.get("add"):
                files[add["path"]] = json.loads(add["stats"])["numRecords"]
                arrived += files[add["path"]] * add["dataChange"]
            elif remove := action.get("remove"):
                files.pop(remove["path"], None)
        yield sum(files.values()), arrived


@pytest.mark.timeout(300)
def test_two_that_merge_while_a_third_appends_leave_each_row_once_in_every_version(
    path, tmp_path_factory
):
    done = tmp_path_factory.mktemp("done")
    homes = [home(path, name, n, done) for name, n in (("1", MERGES), ("2", MERGES), ("3", 0))]
    batches = [int(each.communicate()[0]) for each in homes]
    assert [each.returncode for each in homes] == [0, 0, 0]
    assert all(held == arrived for held, arrived in counts(path))
    ids = DeltaTable(path).to_pyarrow_table(columns=["event_id"])["event_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 5 * sum(batches)
    merges = sum(
        any("remove" in each for each in delta.commit(delta.store(path), version))
        for version in range(DeltaTable(path).version() + 1)
    )
    assert merges >= MERGES


def ids(path):
    return sorted(DeltaTable(path).to_pyarrow_table(columns=["event_id"])["event_id"].to_pylist())


@pytest.fixture
def filled(path):
    table = Predictions(path)
    for batch in range(3):
        table.append(rows(f"{batch}-a", f"{batch}-b"), "app", batch)
    return table


@pytest.fixture
def meanwhile(monkeypatch):
    """Has something done right before the next commit by delta-rs, after all looks at the log."""

    def do(what):
        commit, todo = DeltaTable.create_write_transaction, [what]

        def late(*arguments, **named):
            if todo:
                todo.pop()()
            return commit(*arguments, **named)

        monkeypatch.setattr(DeltaTable, "create_write_transaction", late)
        return todo

    return do


@pytest.mark.parametrize("path", ["partitioned by label", "store"], indirect=True)
def test_a_merge_that_an_append_outran_is_committed_behind_it(filled, path, meanwhile):
    before, todo = ids(path), meanwhile(lambda: filled.append(rows("late"), "app", 3))
    merging.merge(path, DeltaTable(path), 2**20)
    assert not todo
    assert ids(path) == sorted([*before, "late"])
    assert len(DeltaTable(path).file_uris()) == 2


@pytest.mark.parametrize("path", ["partitioned by label", "store"], indirect=True)
@pytest.mark.parametrize("other", ["compact", "z-order", "ours", "delete"])
def test_a_merge_whose_files_another_took_at_the_last_moment_gives_way(
    filled, path, meanwhile, other
):
    def take():
        table = DeltaTable(path)
        if other == "ours":
            Predictions(path)._merge()
        elif other == "delete":
            table.delete("event_id = '1-a'")
        elif other == "compact":
            table.optimize.compact()
        else:
            table.optimize.z_order(["event_id"])

    todo, left = meanwhile(take), ids(path)
    filled._merge()
    assert not todo
    assert ids(path) == [each for each in left if (each, other) != ("1-a", "delete")]
