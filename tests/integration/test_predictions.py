"""predictions: a Delta table that the stream commits to and anything reads, without Spark."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from sightstream.errors import InputError
from sightstream.images.event import new_event_id
from sightstream.tables import commits, predictions
from sightstream.tables.labels import Labels
from sightstream.tables.predictions import Predictions, follow
from sightstream.tables.query import Filter, query, snapshot
from sightstream.tables.schema import ROW

TODAY = datetime(2025, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "home/predictions")


@pytest.fixture
def table(path):
    made = Predictions(path)
    made.last_batch("anybody")  # a table exists from its first use on
    return made


def row(name="x.jpg", **changes):
    now = datetime.now(UTC)
    columns = {
        "event_id": new_event_id(now.timestamp()), "source": "folder", "uri": f"file:///{name}",
        "original_name": name, "event_time": TODAY, "processed_at": now, "status": "ok",
        "error_code": None, "error_detail": None, "label": "cat", "score": 0.75,
        "top": [{"label": "cat", "score": 0.75}, {"label": "dog", "score": 0.25}],
        "model": "starter", "model_version": 1, "format": "PNG", "width": 8, "height": 8,
        "bytes": 100, "decode_ms": 1.5, "predict_ms": 0.5, "batch_id": 0, "date": TODAY.date(),
        "also": None,
        "frame": None,
    }  # fmt: skip
    return columns | changes


def rejected(name="bad.jpg", **changes):
    nothing = dict.fromkeys(["label", "score", "top", "model", "model_version", "format"])
    reason = {"status": "rejected", "error_code": "corrupt", "error_detail": "It is broken."}
    return row(name, **nothing, **reason) | changes


def rows(*made):
    return pa.Table.from_pylist(list(made), ROW)


def names(path):
    found = DeltaTable(path).to_pyarrow_table(columns=["original_name"])
    return sorted(found["original_name"].to_pylist())


def ids(found):
    return found["event_id"].to_pylist()


# The table


def test_it_is_created_with_the_columns_of_the_schema(table, path):
    made = pa.schema(DeltaTable(path).schema().to_arrow())
    assert made.names == ROW.names
    assert [field.nullable for field in made] == [field.nullable for field in ROW]


def test_it_is_partitioned_by_date(table, path):
    assert DeltaTable(path).metadata().partition_columns == ["date"]


def test_each_column_has_a_comment(table, path):
    comments = {field.name: field.metadata for field in DeltaTable(path).schema().fields}
    assert comments["event_id"] == {"comment": "the image's arrival; one row each"}
    assert all(comment["comment"] for comment in comments.values())


def test_its_files_lie_under_their_date(table, path):
    table.append(rows(row(), row(date=TODAY.date() - timedelta(1))), "app", 0)
    days = {folder.name for folder in Path(path).glob("date=*")}
    assert days == {"date=2025-11-21", "date=2025-11-20"}


def test_opening_it_again_keeps_its_rows(table, path):
    table.append(rows(row("a")), "app", 0)
    Predictions(path).append(rows(row("b")), "app", 1)
    assert names(path) == ["a", "b"]


def test_a_row_comes_back_as_it_was_written(table, path):
    written = row("weird \u2028 \n 日本.jpg")
    table.append(rows(written), "app", 0)
    (read,) = DeltaTable(path).to_pyarrow_table().to_pylist()
    assert read == written


# Commits


def test_before_the_first_batch_there_is_none(table):
    assert table.last_batch("app") is None


def test_the_last_batch_is_the_one_that_was_committed(table):
    for batch in range(3):
        table.append(rows(row()), "app", batch)
        assert table.last_batch("app") == batch


def test_another_opening_knows_the_last_batch(table, path):
    other = Predictions(path)
    assert other.last_batch("app") is None
    table.append(rows(row()), "app", 7)
    assert other.last_batch("app") == 7


def test_each_checkpoint_has_its_own_last_batch(table):
    table.append(rows(row()), "one", 5)
    table.append(rows(row()), "two", 1)
    assert (table.last_batch("one"), table.last_batch("two")) == (5, 1)


def test_a_table_of_other_comments_is_written_to(table, path):
    table.append(rows(row("a")), "app", 0)
    described = [field.with_metadata({"comment": "as it is today"}) for field in ROW]
    table.append(rows(row("b")).cast(pa.schema(described)), "app", 1)
    assert names(path) == ["a", "b"]


def test_an_append_of_no_rows_still_records_its_batch(table, path):
    table.append(rows(), "app", 4)
    assert table.last_batch("app") == 4
    assert Predictions(path).last_batch("app") == 4
    assert names(path) == []


def test_two_openings_append_one_after_the_other(table, path):
    other = Predictions(path)
    for batch in range(5):
        table.append(rows(row(f"a{batch}")), "one", batch)
        other.append(rows(row(f"b{batch}")), "two", batch)
    assert names(path) == sorted(f"{letter}{n}" for letter in "ab" for n in range(5))


def test_known_returns_only_ids_that_the_table_holds(table):
    held, other = row(), row()
    table.append(rows(held, row()), "app", 0)
    ids = pa.chunked_array([[held["event_id"], other["event_id"]]])
    assert table.known(ids, pa.chunked_array([[TODAY.date()] * 2])) == {held["event_id"]}


def test_known_sees_what_another_opening_committed(table, path):
    held = row()
    table.append(rows(), "app", 0)
    Predictions(path).append(rows(held), "app", 1)
    dates = pa.chunked_array([[TODAY.date()]])
    assert table.known(pa.chunked_array([[held["event_id"]]]), dates) == {held["event_id"]}


def test_known_looks_only_at_the_given_dates(table):
    held = row()
    table.append(rows(held), "app", 0)
    yesterday = pa.chunked_array([[TODAY.date() - timedelta(1)]])
    assert table.known(pa.chunked_array([[held["event_id"]]]), yesterday) == set()


def test_of_an_empty_table_nothing_is_known(table):
    assert table.known(pa.chunked_array([["x"]]), pa.chunked_array([[TODAY.date()]])) == set()


def test_of_no_ids_none_is_known(table):
    table.append(rows(row()), "app", 0)
    nothing = rows()
    found = table.known(nothing["event_id"], nothing["date"])
    assert found == set()


# Queries


def test_a_query_reads_the_predictions(table, path):
    table.append(rows(row(label="cat"), row(label="dog"), row(label="cat")), "app", 0)
    counted = query(path, "SELECT label, count(*) n FROM predictions GROUP BY label ORDER BY n")
    assert counted.to_pylist() == [{"label": "dog", "n": 1}, {"label": "cat", "n": 2}]


def test_a_query_answers_with_times_between_as_people_read_them(table, path):
    table.append(rows(row()), "app", 0)
    asked = query(path, "SELECT event_time + INTERVAL '4.5 s' - event_time AS \"a \"\"b\", 1 AS n, "
                        "INTERVAL 3 days, NULL::INTERVAL AS none FROM predictions")  # fmt: skip
    assert list(asked.to_pylist()[0].values()) == ["00:00:04.5", 1, "3 days", None]
    assert asked.column_names[0] == 'a "b'


@pytest.mark.parametrize("folder", ["a b", "日本", "a#b?c", "a+b=c&d"])
def test_a_query_reads_a_table_in_a_folder_of_any_name(tmp_path, folder):
    there = str(tmp_path / folder)
    Predictions(there).append(rows(row("x")), "app", 0)
    assert query(there, "SELECT original_name n FROM predictions")["n"].to_pylist() == ["x"]


def test_a_query_finds_the_tables_of_backfills_by_their_names(table, path, tmp_path):
    assert query(path, "SELECT 1 n", tables=tmp_path / "tables")["n"].to_pylist() == [1]
    for name, label in (("again", "elm"), ("order", "ash")):  # of which one is a word of SQL
        other = Predictions(str(tmp_path / "tables" / name))
        other.append(pa.Table.from_pylist([row(label=label)], ROW), "app", 0)
    (tmp_path / "tables" / "no_table").mkdir()
    asked = "SELECT label FROM again UNION SELECT label FROM \"order\" WHERE label <> 'elm'"
    found = query(path, asked, tables=tmp_path / "tables")
    assert sorted(found["label"].to_pylist()) == ["ash", "elm"]


def test_a_query_warns_of_nothing(table, path, recwarn):
    table.append(rows(row()), "app", 0)
    query(path, "SELECT * FROM predictions")
    assert not [str(warning.message) for warning in recwarn]


def test_a_query_of_an_empty_table_has_no_rows(table, path):
    assert query(path, "SELECT * FROM predictions").num_rows == 0
    assert query(path, "SELECT * FROM dead_letters").num_rows == 0


def test_dead_letters_are_the_rejected_rows_with_their_reason(table, path):
    table.append(rows(row("good.jpg"), rejected("bad.jpg")), "app", 0)
    (letter,) = query(path, "SELECT * FROM dead_letters").to_pylist()
    assert (letter["original_name"], letter["error_code"]) == ("bad.jpg", "corrupt")
    assert "label" not in letter


def test_a_query_looks_into_the_best_labels(table, path):
    table.append(rows(row()), "app", 0)
    found = query(path, "SELECT top[2].label AS next_best FROM predictions")
    assert found["next_best"].to_pylist() == ["dog"]


def test_a_query_knows_the_dates(table, path):
    table.append(rows(row("a"), row("b", date=TODAY.date() - timedelta(1))), "app", 0)
    found = query(path, "SELECT original_name FROM predictions WHERE date = '2025-11-20'")
    assert found["original_name"].to_pylist() == ["b"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELEC 1",
        "SELECT nothing FROM predictions",
        "SELECT * FROM prediction",
        "SELECT label::int FROM predictions",
        "'",
        "DROP TABLE x",
    ],
)
def test_wrong_sql_is_an_input_error_that_says_what_is_wrong(table, path, sql):
    table.append(rows(row()), "app", 0)
    with pytest.raises(InputError, match=r"the query failed: .*Error"):
        query(path, sql)


@pytest.mark.parametrize("sql", ["", " ", ";", "-- nothing"])
def test_sql_that_says_nothing_answers_nothing(table, path, sql):
    assert query(path, sql).num_rows == 0


def test_an_answer_without_rows_has_its_columns(table, path):
    table.append(rows(row()), "app", 0)
    found = query(path, "SELECT label, score FROM predictions WHERE label = 'unicorn'")
    assert found.column_names == ["label", "score"]


@pytest.mark.parametrize("where", ["nowhere", "folder"])
def test_without_a_table_a_query_says_what_to_do(tmp_path, where):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="start the stream with: sightstream run"):
        query(str(tmp_path / where), "SELECT 1")


def test_what_is_no_table_is_told(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/deeper/predictions"):
        for ask in (predictions.version, Predictions, lambda path: query(path, "SELECT 1")):
            with pytest.raises(InputError, match=f"the table {place} cannot be read: .*no folder"):
                ask(str(place))


def test_a_query_creates_no_table(tmp_path):
    with pytest.raises(InputError):
        query(str(tmp_path / "none"), "SELECT 1")
    assert not (tmp_path / "none").exists()


READER = """
import json, sys, warnings
warnings.simplefilter("ignore")
from sightstream.tables.query import query
for line in sys.stdin:
    found = query(sys.argv[1], "SELECT original_name n FROM predictions ORDER BY n")
    print(json.dumps(found["n"].to_pylist()), flush=True)
"""


def test_a_reader_in_another_process_sees_what_was_committed(table, path):
    table.append(rows(row("a"), row("b")), "app", 0)

    def ask():
        reader.stdin.write("?\n")
        reader.stdin.flush()
        return json.loads(reader.stdout.readline())

    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", READER, path],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as reader:  # fmt: skip
        assert ask() == ["a", "b"]
        table.append(rows(row("c")), "app", 1)
        assert ask() == ["a", "b", "c"]
        reader.stdin.close()


def seconds_of(work):
    """The least of the core of three runs."""
    taken = []
    for _ in range(3):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def many(count, first):
    """Rows that arrived and were processed one microsecond after the other."""
    made = rows(row("many")).take([0] * count)
    numbers = pa.array(range(first, first + count), pa.int64())
    for name in ("event_time", "processed_at"):
        kind = ROW.field(name).type
        times = pc.add(numbers, int(TODAY.timestamp()) * 10**6).cast(kind)
        made = made.set_column(made.schema.get_field_index(name), ROW.field(name), times)
    ids = pc.binary_join_element_wise("event", numbers.cast(pa.string()), "-")
    return made.set_column(0, ROW.field("event_id"), ids)


def test_the_page_reads_all_columns_of_the_newest_rows_and_of_one_row_alone(table, path):
    for batch in range(4):
        table.append(many(100_000, batch * 100_000), "app", batch)
    table.maintain(quiet=True)
    with snapshot(path) as now:
        all_columns = seconds_of(lambda: now.ask("SELECT * FROM predictions").num_rows)
        found = now.newest(Filter(), 2, skip=1)
        assert [each["event_id"] for each in found] == ["event-399998", "event-399997"]
        assert seconds_of(lambda: now.newest(Filter(), 20)) < all_columns / 2
        assert now.row("event-123456")["event_id"] == "event-123456"
        assert seconds_of(lambda: now.row("event-123456")) < all_columns / 2
        assert now.row("none") is None


def test_rows_without_a_time_of_arrival_come_last(table, path):
    made = [row("a", event_time=None), row("b"), row("c", event_time=None)]
    table.append(rows(*made), "app", 0)
    with snapshot(path) as now:
        assert now.newest(Filter(), 3)[0]["original_name"] == "b"
        assert len(now.newest(Filter(), 3)) == 3


# Its last version


def test_without_a_table_there_is_no_version(tmp_path):
    assert predictions.version(str(tmp_path / "none")) is None
    with pytest.raises(InputError):
        predictions.version_of(str(tmp_path / "none"))


@pytest.mark.parametrize("told", ["rightly", "not", "damaged"])
def test_its_last_version_is_found_whatever_the_last_checkpoint_is_said_to_be(table, path, told):
    said = Path(path, "_delta_log", "_last_checkpoint")
    assert predictions.version(path) == 0
    for number in range(5):
        table.append(rows(row(f"{number}")), "app", number)
    assert predictions.version(path) == DeltaTable(path).version() == 5
    table.maintain(quiet=True)
    table.append(rows(row("after")), "app", 5)
    if told == "not":
        said.unlink()
    elif told == "damaged":
        said.write_text("{")
    assert predictions.version(path) == DeltaTable(path).version() == 7


def test_a_checkpoint_that_its_log_does_not_have_is_no_version(table, path):
    said = Path(path, "_delta_log", "_last_checkpoint")
    said.write_text('{"version": 99, "size": 9}')
    with pytest.raises(InputError):
        predictions.version(path)


# Following


def begun(path, table):
    """A follower that has begun to look, which shows in the first of many rows that it yields."""
    stop, looking = threading.Event(), follow(path, interval=0.01)

    def commit():
        while not stop.wait(0.02):
            table.append(rows(row("begin")), "begin", DeltaTable(path).version())

    committer = threading.Thread(target=commit)
    committer.start()
    next(looking)
    stop.set()
    committer.join()
    return looking


def shown(looking, last):
    """The names that a follower yields up to the last one, those of its beginning left out."""
    found = []
    while last not in found:
        found += [made["original_name"] for made in next(looking)]
    return [name for name in found if name != "begin"]


@pytest.mark.timeout(60)
def test_a_follower_sees_each_new_row_once(table, path):
    looking = begun(path, table)
    for batch in range(20):
        table.append(rows(*(row(f"{batch}-{n}") for n in range(3))), "app", batch)
    found = Counter(shown(looking, "19-2"))
    assert found == Counter(f"{batch}-{n}" for batch in range(20) for n in range(3))


@pytest.mark.timeout(60)
def test_a_follower_sees_nothing_of_what_was_there_before(table, path):
    table.append(rows(row("before")), "app", 0)
    looking = begun(path, table)
    table.append(rows(row("after")), "app", 1)
    assert shown(looking, "after") == ["after"]


@pytest.mark.timeout(60)
def test_a_follower_sees_the_rows_of_a_batch_together(table, path):
    looking = begun(path, table)
    table.append(rows(row("a"), rejected("b"), row("c")), "app", 0)
    found = next(made for made in looking if made[0]["original_name"] != "begin")
    assert sorted(made["original_name"] for made in found) == ["a", "b", "c"]


@pytest.mark.timeout(60)
def test_merging_files_shows_a_follower_nothing_twice(table, path):
    looking = begun(path, table)
    table.append(rows(row("a")), "app", 0)
    assert shown(looking, "a") == ["a"]
    assert table.maintain(quiet=True)
    table.append(rows(row("b")), "app", 1)
    assert shown(looking, "b") == ["b"]


@pytest.mark.timeout(60)
def test_a_follower_sees_rows_that_were_stamped_before_others_and_committed_after(table, path):
    # As when the clock is set back, or two streams commit to the table.
    stamp = datetime.now(UTC)
    looking = begun(path, table)
    table.append(rows(row("late", processed_at=stamp)), "app", 0)
    table.append(rows(row("last")), "app", 1)
    assert shown(looking, "last") == ["late", "last"]


@pytest.mark.timeout(60)
def test_a_follower_that_slept_while_the_log_was_cleaned_goes_on(table, path, caplog):
    looking = begun(path, table)
    commit_many(table, 5)
    age(path, hours=30)
    assert table.maintain(quiet=True)
    assert not Path(path, "_delta_log", f"{DeltaTable(path).version() - 3:020d}.json").exists()
    table.append(rows(row("last")), "app", 6)
    assert shown(looking, "last")[-1] == "last"
    assert "are gone, since they are older than its table_history" in caplog.text


@pytest.fixture
def thousands(table):
    """Rows that were processed one a second, in two commits that do not follow their order."""
    made = [row(str(n), processed_at=TODAY + timedelta(seconds=n)) for n in range(10_000)]
    table.append(rows(*made[1::2]), "app", 0)
    table.append(rows(*made[::2]), "app", 1)


@pytest.mark.parametrize("held", [1, 1000, 10**6])
def test_rows_since_a_moment_come_once_and_in_order(path, thousands, monkeypatch, held):
    monkeypatch.setattr(predictions, "HELD", held)
    parts = list(predictions.since(path, TODAY + timedelta(seconds=90)))
    found = [each["original_name"] for part in parts for each in part]
    assert found == [str(n) for n in range(90, 10_000)]
    assert max(map(len, parts)) <= predictions.PART
    assert not list(predictions.since(path, TODAY + timedelta(seconds=10_000)))


def test_rows_since_a_moment_take_the_memory_of_a_part(path, thousands):
    tracemalloc.start()
    try:
        seen = sum(len(part) for part in predictions.since(path, TODAY))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == 10_000
    assert most < 10_000 * 1000


@pytest.mark.timeout(60)
def test_without_a_table_a_follower_says_what_to_do(path):
    with pytest.raises(InputError, match="start the stream with: sightstream run"):
        next(follow(path))


# Upkeep


def commit_many(table, number, first=0):
    for batch in range(first, first + number):
        table.append(rows(row(f"{batch}")), "app", batch)


def age(path, hours=2):
    """Makes all files of the table look as if they had been written hours ago."""
    before = time.time() - hours * 3600
    for file in Path(path).rglob("*"):
        os.utime(file, (before, before))


def data_files(path):
    return list(Path(path).glob("date=*/*.parquet"))


def log_entries(path):
    return list(Path(path, "_delta_log").glob("*.json"))


def test_three_hundred_small_commits_end_in_few_files_and_few_log_entries(table, path):
    commit_many(table, 300)
    age(path, hours=30)
    assert table.maintain(quiet=False)
    assert len(DeltaTable(path).file_uris()) <= 2
    assert len(log_entries(path)) <= 20
    assert names(path) == sorted(map(str, range(300)))
    assert Predictions(path).last_batch("app") == 299


def test_the_log_and_the_files_are_kept_for_the_history(path):
    table = Predictions(path, timedelta(hours=3))
    commit_many(table, 30)
    before = data_files(path)
    age(path, hours=2)
    assert table.maintain(quiet=True)
    assert len(log_entries(path)) > 30
    assert set(before) < set(data_files(path))
    assert [len(predictions.added(path, version)) for version in range(1, 31)] == [1] * 30
    assert DeltaTable(path, version=15).to_pyarrow_table().num_rows == 15
    age(path, hours=4)
    again = Predictions(path, timedelta(hours=3))
    commit_many(again, 2, first=30)
    assert again.maintain(quiet=True)
    assert len(log_entries(path)) <= 10


def test_a_history_of_minutes_is_kept_by_log_and_files(path):
    table = Predictions(path, timedelta(minutes=90))
    kept = DeltaTable(path).metadata().configuration["delta.deletedFileRetentionDuration"]
    assert kept == "interval 90 minutes"
    commit_many(table, 30)
    left = data_files(path)[0].with_name("part-of-a-commit-that-was-killed.parquet")
    left.touch()
    age(path, hours=1)
    assert table.maintain(quiet=True)
    assert len(log_entries(path)) > 30
    assert left.exists()
    age(path, hours=2)
    again = Predictions(path, timedelta(minutes=90))
    commit_many(again, 2, first=30)
    assert again.maintain(quiet=True)
    assert len(log_entries(path)) <= 10
    assert not left.exists()
    assert names(path) == sorted(map(str, range(32)))


def test_old_files_are_looked_for_as_often_as_a_short_history_ends(path, monkeypatch):
    table = Predictions(path, timedelta(minutes=10))
    cleaned = []
    monkeypatch.setattr(table, "_clean_up", lambda: cleaned.append(1) or setattr(
        table, "_cleaned", time.monotonic()))  # fmt: skip
    for number in range(2):
        commit_many(table, 2, first=2 * number)
        assert table.maintain(quiet=True)
    assert len(cleaned) == 1
    table._cleaned -= 601
    commit_many(table, 2, first=4)
    assert table.maintain(quiet=True)
    assert len(cleaned) == 2


@pytest.fixture
def order(monkeypatch):
    """The names of files that are synced, linked and removed, in order; parquet files by that."""
    done = []

    def name(path):
        return "rows" if str(path).endswith(".parquet") else Path(path).name

    def sync(file):
        done.append(f"sync {name(Path(f'/proc/self/fd/{file}').readlink())}")
        fsync(file)

    def linked(source, target):
        done.append(f"link {name(target)}")
        link(source, target)

    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", linked)
    return done


def entry(version):
    return f"{version:020d}.json"


def test_the_files_of_a_commit_are_synced_before_its_entry_and_all_before_its_return(table, order):
    for number in range(2):
        order.clear()
        table.append(rows(row()), "app", number)
        made = order[2].removeprefix("sync ")
        assert made.endswith(".json.tmp")
        assert order == ["sync rows", f"link {entry(number + 1)}", f"sync {made}",
                         "sync _delta_log"]  # fmt: skip


def test_merged_files_and_a_checkpoint_are_synced_before_what_they_replace_is_removed(
    table, path, order
):
    commit_many(table, 3)
    order.clear()
    assert table.maintain(quiet=True)
    merged = order.index(f"link {entry(4)}")
    assert order[merged - 1] == "sync rows"
    checkpoint = order.index("sync _last_checkpoint")
    assert order[checkpoint - 1 : checkpoint + 2] == [
        "sync rows", "sync _last_checkpoint", "sync _delta_log"
    ]  # fmt: skip


def test_what_delta_rs_commits_is_synced_right_after(path, order, tmp_path):
    table = Predictions(path)
    assert order[:2] == [f"sync {entry(0)}", "sync _delta_log"]
    order.clear()
    table.mark("a mark", 7)
    assert f"sync {entry(1)}" in order
    order.clear()
    Labels(tmp_path / "labels").put({"1": "cat"}, "me")
    assert order[:2] == ["sync rows", f"sync {entry(1)}"]


def test_a_table_whose_last_entry_a_checkpoint_replaced_is_opened_and_written_to(table, path):
    commit_many(table, 3)
    DeltaTable(path).create_checkpoint()
    for gone in log_entries(path):
        gone.unlink()
    commit_many(Predictions(path), 1, first=3)
    assert names(path) == sorted(map(str, range(4)))


def test_a_hint_of_a_checkpoint_that_is_empty_ends_nothing(table, path):
    commit_many(table, 30)
    table.maintain(quiet=True)
    Path(path, "_delta_log", "_last_checkpoint").write_bytes(b"")
    again = Predictions(path)
    commit_many(again, 1, first=30)
    assert predictions.version(path) == DeltaTable(path).version()
    assert names(path) == sorted(map(str, range(31)))


def test_another_history_is_written_to_the_table_and_without_one_it_stays(table, path):
    def kept():
        return DeltaTable(path).metadata().configuration["delta.logRetentionDuration"]

    assert kept() == "interval 24 hours"
    Predictions(path, timedelta(days=7)).append(rows(row()), "app", 0)
    assert kept() == "interval 168 hours"
    before = DeltaTable(path).version()
    Predictions(path, timedelta(days=7))
    Predictions(path)
    assert (kept(), DeltaTable(path).version()) == ("interval 168 hours", before)
    table.append(rows(row()), "app", 1)


def test_a_reader_replays_a_bounded_number_of_commits(table, path):
    commit_many(table, predictions.SMALL_FILES)
    assert table.maintain(quiet=False)
    checkpoint = json.loads(Path(path, "_delta_log", "_last_checkpoint").read_text())["version"]
    assert checkpoint > predictions.SMALL_FILES


def test_files_that_no_reader_needs_any_more_are_dropped(path):
    table = Predictions(path, timedelta(0))
    commit_many(table, 20)
    assert table.maintain(quiet=True)
    assert len(data_files(path)) <= 2
    assert names(path) == sorted(map(str, range(20)))


def test_a_commit_takes_no_longer_in_a_log_of_a_day(table, path):
    commit_many(table, 20)
    DeltaTable(path).create_checkpoint()
    log = Path(path, "_delta_log")
    entry = log / f"{20:020d}.json"
    for version in range(21, 50_001):
        os.link(entry, log / f"{version:020d}.json")
    shutil.copy(log / f"{20:020d}.checkpoint.parquet", log / f"{50_000:020d}.checkpoint.parquet")
    last = json.loads((log / "_last_checkpoint").read_text())
    (log / "_last_checkpoint").write_text(json.dumps(last | {"version": 50_000}))
    opened, seconds = Predictions(path), []
    for batch in range(20):
        begin = time.monotonic()
        opened.append(rows(row()), "new", batch)
        seconds.append(time.monotonic() - begin)
    assert DeltaTable(path).version() == 50_020
    assert sorted(seconds)[10] < 0.1, seconds


def test_a_writer_that_was_away_while_others_went_on_and_cleaned_commits_after_them(table, path):
    commit_many(table, 5)
    other = Predictions(path)
    for batch in range(30):
        other.append(rows(row(f"other {batch}")), "other", batch)
    age(path, hours=30)
    assert other.maintain(quiet=True)
    assert not Path(path, "_delta_log", f"{6:020d}.json").exists()
    commit_many(table, 1, first=5)
    assert len(names(path)) == 36
    assert table.last_batch("app") == 5


def test_a_reader_that_opened_before_can_still_read(table, path):
    commit_many(table, 20)
    opened = DeltaTable(path)
    dataset = opened.to_pyarrow_dataset()
    age(path)
    assert table.maintain(quiet=True)
    assert dataset.count_rows() == 20
    assert sorted(dataset.to_table()["original_name"].to_pylist()) == names(path)
    assert opened.to_pyarrow_table().num_rows == 20


def test_a_reader_that_opened_before_can_catch_up(table, path):
    commit_many(table, 20)
    opened = DeltaTable(path)
    age(path)
    assert table.maintain(quiet=True)
    table.last_batch("app")
    commit_many(table, 3, first=20)
    opened.update_incremental()
    assert opened.to_pyarrow_table().num_rows == 23


def test_the_stream_goes_on_after_the_upkeep(table, path):
    held = row("held")
    commit_many(table, 20)
    table.append(rows(held), "app", 20)
    age(path)
    assert table.maintain(quiet=True)
    assert table.last_batch("app") == 20
    dates = pa.chunked_array([[TODAY.date()]])
    assert table.known(pa.chunked_array([[held["event_id"]]]), dates) == {held["event_id"]}
    commit_many(table, 3, first=21)
    assert table.last_batch("app") == 23
    assert len(names(path)) == 24


def test_the_upkeep_may_run_again_and_again(table, path):
    for first in range(0, 30, 10):
        commit_many(table, 10, first)
        assert table.maintain(quiet=True)
    assert names(path) == sorted(map(str, range(30)))
    assert Predictions(path).last_batch("app") == 29


def test_the_stream_goes_on_when_the_upkeep_follows_an_hour_of_sleep(table, path):
    # A laptop that was closed after the last commit: nothing but the clock has gone on.
    commit_many(table, 5)
    age(path)
    assert table.maintain(quiet=True)
    commit_many(table, 1, first=5)
    assert names(path) == list("012345")


def test_upkeep_that_failed_is_tried_again(table, path, tmp_path):
    commit_many(table, 5)
    missing = data_files(path)[0]
    missing.rename(tmp_path / "aside")
    with pytest.raises(Exception, match=r"not found|No such file"):
        table.maintain(quiet=True)
    (tmp_path / "aside").rename(missing)
    assert table.maintain(quiet=True)
    assert names(path) == list("01234")


def test_merged_files_keep_the_dates_apart(table, path):
    for batch in range(6):
        day = TODAY.date() - timedelta(batch % 2)
        table.append(rows(row(f"{batch}", date=day)), "app", batch)
    assert table.maintain(quiet=True)
    assert len(DeltaTable(path).file_uris()) == 2
    assert names(path) == list("012345")


def test_commits_during_the_upkeep_are_kept(table, path):
    commit_many(table, 30)
    other, stop, committed = Predictions(path), threading.Event(), []

    def commit():
        while not stop.is_set():
            other.append(rows(row(f"during {len(committed)}")), "other", len(committed))
            committed.append(f"during {len(committed)}")

    committer = threading.Thread(target=commit)
    committer.start()
    for first in range(30, 60, 10):
        assert table.maintain(quiet=True)
        commit_many(table, 10, first)
    stop.set()
    committer.join()
    assert names(path) == sorted([*map(str, range(60)), *committed])


def test_without_reason_there_is_no_upkeep(table, path):
    commit_many(table, 1)
    before = DeltaTable(path).version()
    assert not table.maintain(quiet=True)
    commit_many(table, 5, first=1)
    assert not table.maintain(quiet=False)
    assert DeltaTable(path).version() == before + 5


def test_an_idle_stream_is_maintained_once(table):
    commit_many(table, 5)
    assert table.maintain(quiet=True)
    assert not table.maintain(quiet=True)


# Snapshots


def at(hours, **changes):
    """A row of an image that arrived so many hours before TODAY."""
    time = TODAY - timedelta(hours=hours)
    return row(f"{hours}", event_time=time, date=time.date(), **changes)


def newest(path, wanted=None, count=9, **given):
    wanted = wanted or Filter()
    with snapshot(path, since=wanted.since) as now:
        return [each["original_name"] for each in now.newest(wanted, count, **given)]


def test_the_newest_rows_come_first_over_all_days(table, path):
    table.append(rows(*(at(hours) for hours in (5, 200, 30, 1, 60))), "app", 0)
    assert newest(path) == ["1", "5", "30", "60", "200"]
    assert newest(path, count=2) == ["1", "5"]
    assert newest(path, count=2, skip=2) == ["30", "60"]
    assert newest(path, count=2, skip=4) == ["200"]


def test_days_that_are_not_needed_are_never_opened(table, path):
    table.append(rows(at(1), at(2), at(100)), "app", 0)
    for file in Path(path).glob("date=2025-11-17/*.parquet"):
        file.unlink()
    since = Filter(since=TODAY - timedelta(hours=3))
    assert newest(path, count=2) == newest(path, since) == ["1", "2"]
    with snapshot(path) as now:
        assert now.trend(since, 10).num_rows
        assert now.kinds(since.since).labels == ("cat",)
        with pytest.raises(Exception, match="No such file"):
            now.newest(Filter(), 3)


def test_rows_of_the_last_minute_come_before_older_ones(table, path):
    now = datetime.now(UTC)
    made = [
        row(f"{ago}", event_time=now - timedelta(seconds=ago), date=now.date())
        for ago in (3600, 5, 2, 1, 70)
    ]
    table.append(rows(*made), "app", 0)
    assert newest(path, count=2) == ["1", "2"]
    assert newest(path, count=1, skip=2) == ["5"]
    assert newest(path, count=3, skip=1) == ["2", "5", "70"]
    assert newest(path) == ["1", "2", "5", "70", "3600"]
    assert newest(path, Filter(since=now - timedelta(seconds=3))) == ["1", "2"]
    assert newest(path, Filter(labels=("dog",))) == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), ["1", "2", "3", "4"]),
        (Filter(since=TODAY - timedelta(hours=2)), ["1", "2"]),
        (Filter(status="ok"), ["1", "2", "4"]),
        (Filter(status="rejected"), ["3"]),
        (Filter(labels=("dog", "'; DROP TABLE predictions; --")), ["2"]),
        (Filter(sources=("kafka",)), ["4"]),
        (Filter(versions=(("starter", 2), ("leaf", 1))), ["2"]),
        (Filter(scores=(0.2, 0.5)), ["1"]),
        (Filter(status="ok", labels=("cat",), scores=(0.5, 1.0)), ["4"]),
    ],
)
def test_a_filter_leaves_what_matches(table, path, wanted, expected):
    nothing = {key: value for key, value in rejected().items() if value is None}
    bad = at(3, **nothing, status="rejected")
    made = [at(1, score=0.25), at(2, label="dog", model_version=2), bad, at(4, source="kafka")]
    table.append(rows(*made), "app", 0)
    assert newest(path, wanted) == expected


def test_the_trend_counts_labels_and_times_over_spans(table, path):
    def made(minute, label, latency):
        time = TODAY + timedelta(minutes=minute)
        return row(event_time=time, processed_at=time + timedelta(seconds=latency), label=label)

    table.append(rows(*(made(*each) for each in [
        (0, "cat", 1), (0.1, "cat", 2), (0.2, None, 3), (9.99, "dog", 0.5),
    ])), "app", 0)  # fmt: skip
    with snapshot(path) as now:
        found = now.trend(Filter(), 10).to_pylist()
    assert {each["seconds"] for each in found} == {60}
    first, last = (TODAY + timedelta(minutes=m) for m in (0, 9))
    spans = [(each["start"], each["images"], each["p50"]) for each in found if each["whole"]]
    assert spans == [(first.timestamp(), 3, 2), (last.timestamp(), 1, 0.5)]
    labels = Counter({(r["start"], r["label"]): r["images"] for r in found if not r["whole"]})
    assert labels == {
        (first.timestamp(), "cat"): 2, (first.timestamp(), None): 1, (last.timestamp(), "dog"): 1,
    }  # fmt: skip


def test_kinds_are_what_there_is(table, path):
    table.append(rows(at(1), at(2, label="ant", model_version=2), rejected()), "app", 0)
    with snapshot(path) as now:
        kinds = now.kinds()
    assert kinds.labels == ("ant", "cat")
    assert (kinds.sources, kinds.versions) == (("folder",), (("starter", 1), ("starter", 2)))


def test_the_least_certain_unlabelled_rows_come_first(table, path, tmp_path):
    made = [at(hours, score=hours / 10) for hours in (5, 1, 3, 2)]
    table.append(rows(*made, rejected(), at(4, model="leaf")), "app", 0)
    ids = {each["original_name"]: each["event_id"] for each in made}
    Labels(tmp_path / "labels").put({ids["2"]: "cat"}, "me")
    with snapshot(path, labels=tmp_path / "labels") as now:
        found = now.uncertain("starter", 9, [ids["1"]])
        assert [each["original_name"] for each in found] == ["3", "5"]
        assert found[0]["top"][0] == {"label": "cat", "score": 0.75}
        assert now.uncertain("nothing", 9) == []
        assert now.row(ids["3"]) == found[0]
        assert now.row("nothing") is None


def test_a_look_at_100_000_rows_takes_under_a_second(table, path):
    hours = [n % 190 for n in range(1000)]
    thousand = rows(*(at(each, label=f"label {each % 20}") for each in hours))
    for batch in range(10):
        table.append(pa.concat_tables([thousand] * 10), "app", batch)
    seconds = []
    for since in (TODAY - timedelta(hours=20), None):
        begin = time.monotonic()
        with snapshot(path, since=since) as now:
            assert len(now.newest(Filter(since), 20)) == 20
            assert now.trend(Filter(since), 60).num_rows
        seconds.append(time.monotonic() - begin)
    assert max(seconds) < 1, seconds


@pytest.mark.parametrize("place", ["none://x/y", "/dev/null", "/dev/null/deeper"])
def test_a_place_where_no_table_can_be_is_told(place):
    with pytest.raises(InputError, match=f"the table {place} cannot be read: "):
        Predictions(place)


def test_events_that_a_copy_of_the_checkpoint_brought_in_are_left_out(path):
    first, second = Predictions(path), Predictions(path)
    first.append(rows(row(event_id="a")), "app", 0)
    copied = second.share("app", 0)
    assert second.last_batch(copied) == 0
    assert ids(second.append(rows(row(event_id="b"), row(event_id="a")), copied, 1)) == ["b"]
    assert ids(first.append(rows(row(event_id="b"), row(event_id="c")), "app", 1)) == ["c"]
    assert ids(first.append(rows(row(event_id="b")), "another", 0)) == ["b"]
    assert (first.last_batch("app"), first.last_batch(copied)) == (1, 1)
    assert second.share(copied, 1) != copied
    first.maintain(quiet=True)
    first._clean_up()
    assert ids(first.append(rows(row(event_id="c")), "app", 2)) == []
    assert DeltaTable(path).count() == 4


def test_two_copies_that_race_with_the_same_events_leave_each_once(path):
    homes = [Predictions(path), Predictions(path)]
    homes[0].append(rows(row(event_id="0")), "app", 0)
    names = ["app", homes[1].share("app", 0)]

    def run(home, name):
        for batch in range(1, 60):
            home.append(rows(row(event_id=str(batch))), name, batch)

    racing = [threading.Thread(target=run, args=each) for each in zip(homes, names, strict=True)]
    for each in racing:
        each.start()
    for each in racing:
        each.join()
    found = DeltaTable(path).to_pyarrow_table(columns=["event_id"])
    assert sorted(map(int, ids(found))) == list(range(60))


@pytest.mark.parametrize("content", [b"\0" * 9, b'{"add": {"path": ', b"[1]", b'{"a":' * 100_000])
def test_a_damaged_log_entry_is_told_with_its_name(table, path, content):
    version = DeltaTable(path).version()
    (Path(path) / "_delta_log" / f"{version + 1:020d}.json").write_bytes(content)
    with pytest.raises(InputError, match=f"{version + 1:020d}.json of the table is damaged; rest"):
        predictions.added(path, version + 1)


@pytest.mark.parametrize("content", ["", "[]", "3", '{"version": null}', "[" * 100_000])
def test_a_damaged_hint_of_the_last_checkpoint_is_none(table, path, content):
    (Path(path) / "_delta_log" / "_last_checkpoint").write_text(content)
    assert commits.last_checkpoint(path) == -1


def test_a_table_of_others_in_the_place_of_the_predictions_is_told(tmp_path):
    place = str(tmp_path / "theirs")
    write_deltalake(place, pa.table({"a": [1, 2], "label": ["x", "y"]}))
    for look in (
        lambda: query(place, "select 1"),
        lambda: predictions.models_of(place, ["e"]),
        lambda: predictions.latest(place, 1),
        lambda: predictions.ask(place, "select event_id from predictions"),
        lambda: Predictions(place),
    ):
        with pytest.raises(InputError, match=r"theirs/? (cannot be|takes no rows)"):
            look()


def test_a_name_that_no_other_table_can_have_is_told(table, path, tmp_path):
    Predictions(str(tmp_path / "home/tables/dead_letters"))
    with pytest.raises(InputError, match=r"dead_letters cannot be queried: .*already exists"):
        query(path, "select 1", tables=tmp_path / "home/tables")
