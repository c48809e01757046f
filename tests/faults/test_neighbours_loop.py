"""Neighbours in a loop under load: other jobs change the table that the stream writes.

They delete, update, add columns, compact and z-order with delta-rs, compact in another process,
and follow the table with Delta Lake's Spark.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from tests import lake
from tests.conftest import end_session
from tests.drops import Drops

SECONDS = float(os.environ.get("NEIGHBOURS_SECONDS", "600"))
RATE = 50
"""Images a second."""

JOBS = """
import collections, json, random, sys, time
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType
from deltalake.exceptions import DeltaError, SchemaMismatchError
path, jobs = sys.argv[1], sys.argv[2].split(",")
done, deleted, columns = collections.Counter(), [], 0
chosen = random.Random(1)

def some_id(table):
    ids = table.to_pyarrow_table(columns=["event_id"], partitions=None)["event_id"]
    return ids[chosen.randrange(len(ids))].as_py()

def delete(table):
    one = some_id(table)
    if table.delete(f"event_id = '{one}'")["num_deleted_rows"]:
        deleted.append(one)

def column(table):
    global columns
    if columns < 10:
        table.alter.add_columns([Field(f"note_{columns}", PrimitiveType("string"))])
        columns += 1

def update(table):
    table.update({"error_detail": "'seen'"}, predicate=f"event_id = '{some_id(table)}'")

known = {
    "delete": delete, "update": update, "column": column,
    "compact": lambda table: table.optimize.compact(),
    "z-order": lambda table: table.optimize.z_order(["event_id"]),
}
stop = []
import signal
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
number = 0
while not stop:
    job = jobs[number % len(jobs)]
    number += 1
    try:
        known[job](DeltaTable(path))
        done[job] += 1
    except (DeltaError, OSError) as error:  # it conflicted, as such jobs must expect
        done[f"{job} refused"] += 1
    time.sleep(0.5)
print(json.dumps({"done": done, "deleted": deleted}))
"""

COMMANDS = [
    ("status", "--json"),
    ("doctor", "--json"),
    ("query", "SELECT count(*) AS n, count(DISTINCT event_id) AS d FROM predictions", "--json"),
    ("query", "SELECT count(*) FROM dead_letters", "--json"),
    ("label", "EVENT", "7", "--json"),
]


@pytest.fixture
def neighbour():
    """Starts jobs in a loop, in a process of their own."""
    begun = []

    def begin(path, *jobs):
        process = subprocess.Popen(
            [sys.executable, "-c", JOBS, path, ",".join(jobs)],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        end_session(process)


def asked(home, event_id):
    """What each command answers; `doctor` may say that copies are there."""
    codes = Counter()
    for command in COMMANDS:
        done = home(*(event_id if each == "EVENT" else each for each in command))
        assert "Traceback" not in done.stderr, done.stderr
        fair = command[0] == "doctor" and "are there twice" in done.stdout
        assert done.returncode == 0 or fair, (command, done.stdout, done.stderr)
        codes[command[0], done.returncode] += 1
    return codes


def follow(spark, path, reader, stop):
    """Follow the table until told to stop, and once more; return all ids, and the errors."""
    ids, errors = [], Counter()
    while True:
        last = stop.wait(2)
        try:
            found = spark.follow(path, reader, skipChangeCommits="true")
            ids += [row["event_id"] for row in found]
        except RuntimeError as error:  # where the schema changed, such a reader starts again
            errors[str(error)[:300]] += 1
            last = False
        if last:
            return ids, errors


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 900)
def test_neighbours_in_a_loop_leave_each_image_one_row(
    new_home, starter, tmp_path, until, neighbour, capsys
):
    home = new_home()
    path, stop, answers = home.settings.predictions, Event(), Counter()
    with lake.running(tmp_path) as spark, home.running(), ThreadPoolExecutor(1) as beside:
        with Drops(home, starter.digits, RATE) as drops:
            until(home.count)
            reader = beside.submit(follow, spark, path, tmp_path / "reader", stop)
            jobs = [
                neighbour(path, "delete", "update", "compact", "column", "z-order"),
                neighbour(path, "compact"),
            ]
            told = tailed(home)
            deadline = monotonic() + SECONDS
            while monotonic() < deadline:
                answers += asked(home, home.table()["event_id"][0].as_py())
                Event().wait(5)
                assert not any(each.poll() for each in jobs)
        for each in jobs:
            each.terminate()
        said = [json.loads(each.communicate(timeout=300)[0]) for each in jobs]
        deleted = {each for one in said for each in one["deleted"]}
        arrived = len(drops.names)
        until(lambda: len(set(home.table()["event_id"].to_pylist())) == arrived - len(deleted), 120)
        until(lambda: home.count() == arrived - len(deleted), 60)
        stop.set()
        read, errors = reader.result(timeout=120)
        end_session(told)
    answers += asked(home, home.table()["event_id"][0].as_py())
    tail = [json.loads(line)["event_id"] for line in whole(home.settings.root / "tail")]
    rows = home.table()
    with capsys.disabled():
        print(f"\n{arrived} images, {len(deleted)} deleted, {rows.num_rows} rows; tail told "
              f"{len(tail)}; Delta's reader read {len(read)}, started again {errors}; jobs "
              f"{[each['done'] for each in said]}; commands {dict(answers)}")  # fmt: skip
    ids = rows["event_id"].to_pylist()
    assert len(ids) == len(set(ids)) == arrived - len(deleted)
    assert not deleted & set(ids)
    assert sorted(rows["original_name"].to_pylist()) == sorted(
        set(drops.names) & set(rows["original_name"].to_pylist())
    )
    assert len(read) == len(set(read)) == arrived
    assert set(ids) <= set(read)
    assert len(tail) == len(set(tail))
    assert len(tail) > 0.9 * arrived


def tailed(home):
    """Starts `tail`, which writes to a file of the home."""
    with (home.settings.root / "tail").open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "sightstream", "tail", "--json"], env=home.environment,
            cwd=home.settings.root, stdout=out, start_new_session=True,
        )  # fmt: skip


def whole(file: Path):
    """The lines of a file, without one that was cut."""
    with suppress(FileNotFoundError):
        return [line for line in file.read_text().splitlines() if line.endswith("}")]
    return []
