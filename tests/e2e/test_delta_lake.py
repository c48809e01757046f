"""The table is one of Delta Lake's: Spark's own reader and writer are neighbours of the stream."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from sightstream import config
from sightstream.cli import doctor
from sightstream.errors import InputError
from sightstream.tables import predictions
from sightstream.tables.predictions import Predictions
from sightstream.tables.query import query
from sightstream.tables.schema import ROW
from tests import lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOW = datetime.now(UTC)


def rows(*event_ids):
    row = {"source": "folder", "status": "ok", "processed_at": NOW, "date": NOW.date()}
    row |= {"event_time": NOW, "label": "cat", "score": 0.5, "model": "starter"}
    row |= {"top": [{"label": "cat", "score": 0.5}]}
    return pa.Table.from_pylist([{"event_id": each} | row for each in event_ids], ROW)


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    with lake.running(tmp_path_factory.mktemp("lake")) as running:
        yield running


@pytest.fixture
def settings(tmp_path):
    return config.Settings(home=tmp_path / "home")


@pytest.fixture
def path(settings):
    return settings.predictions


@pytest.fixture
def table(path, monkeypatch):
    monkeypatch.setattr(predictions, "LOOK", 0.0)
    return Predictions(path)


@pytest.fixture
def write(table):
    """Writes micro-batches of two rows under the numbers of a range."""

    def write(start, stop):
        for batch in range(start, stop):
            table.append(rows(f"{batch}-a", f"{batch}-b"), "app", batch)
        return named(start, stop)

    return write


def named(start, stop):
    return sorted(f"{batch}-{letter}" for batch in range(start, stop) for letter in "ab")


def ids(found):
    return sorted(row["event_id"] for row in found)


def age(path, hours):
    """Make all that is in the table's folder older, log entries and their times included."""
    past = time.time() - 3600 * hours
    for file in Path(path).rglob("*"):
        os.utime(file, (past, past))


def test_a_stream_reads_each_row_once_whatever_upkeep_does(spark, table, path, write, tmp_path):
    write(0, 5)
    assert ids(spark.follow(path, tmp_path / "reader")) == named(0, 5)
    assert table.maintain(quiet=True)
    assert spark.follow(path, tmp_path / "reader") == []
    write(5, 30)
    assert table.maintain(quiet=True)
    table._clean_up()
    write(30, 33)
    compacting = [DeltaTable(path), DeltaTable(path)]
    for each in compacting:  # both succeed, so that the rows are there twice
        each.optimize.compact()
    table.maintain(quiet=False)
    assert table.copies == 66
    assert ids(spark.follow(path, tmp_path / "reader")) == named(5, 33)
    (row,) = spark.sql(f"SELECT count(*) n, count(DISTINCT event_id) d FROM delta.`{path}`")
    assert (row["n"], row["d"]) == (66, 66)
    assert ids(spark.sql(f"SELECT * FROM delta.`{path}` VERSION AS OF 3")) == named(0, 3)


def test_a_reader_of_the_change_feed_gets_each_row_once(spark, table, path, write, tmp_path):
    write(0, 3)
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    feed = {"readChangeFeed": "true", "startingVersion": predictions.version(path)}
    write(3, 6)
    table.maintain(quiet=True)
    found = spark.follow(path, tmp_path / "reader", **feed)
    assert ids(found) == named(3, 6)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE event_id = '4-a'")
    write(6, 8)
    table.maintain(quiet=True)
    found = spark.follow(path, tmp_path / "reader", **feed)
    assert {row["event_id"] for row in found if row["_change_type"] == "delete"} == {"4-a"}
    assert ids(row for row in found if row["_change_type"] == "insert") == named(6, 8)


def test_a_reader_that_was_away_goes_on_while_the_history_lasts(
    spark, path, write, tmp_path, settings
):
    kept = Predictions(path, timedelta(days=7))
    write(0, 3)
    spark.follow(path, tmp_path / "reader")
    spark.follow(path, tmp_path / "late")
    write(3, 6)
    age(path, hours=6 * 24)
    kept.maintain(quiet=True)
    kept._clean_up()
    assert ids(spark.follow(path, tmp_path / "reader")) == named(3, 6)

    write(6, 9)
    write(9, 12)
    age(path, hours=8 * 24)
    kept.maintain(quiet=True)
    kept._clean_up()
    write(12, 13)
    with pytest.raises(RuntimeError, match="DELTA_"):
        spark.follow(path, tmp_path / "late")
    assert "can begin with version" in doctor.CHECKS["history"](settings)


CHANGES = {
    "delete": "DELETE FROM {} WHERE event_id = '0-a'",
    "update": "UPDATE {} SET error_detail = 'seen' WHERE event_id LIKE '1-%'",
    "merge": (
        "MERGE INTO {} t USING (SELECT '0-a' AS id) s ON t.event_id = s.id "
        "WHEN MATCHED THEN UPDATE SET label = 'dog'"
    ),
    "optimize": "OPTIMIZE {}",
    "z-order": "OPTIMIZE {} ZORDER BY (event_id)",
    "vacuum": "VACUUM {} RETAIN 0 HOURS",
    "column": "ALTER TABLE {} ADD COLUMN reviewed_by STRING",
    "reorder": "ALTER TABLE {} ADD COLUMN reviewed_by STRING FIRST",
    "comment": "ALTER TABLE {} ALTER COLUMN label COMMENT 'by a person'",
    "check": "ALTER TABLE {} ADD CONSTRAINT good CHECK (score IS NULL OR score >= 0)",
    "deletion vectors": (
        "ALTER TABLE {} SET TBLPROPERTIES (delta.enableDeletionVectors = true)",
        "DELETE FROM {} WHERE event_id = '0-a'",
    ),
    "column mapping": (
        "ALTER TABLE {} SET TBLPROPERTIES (delta.columnMapping.mode = 'name', "
        "delta.minReaderVersion = 2, delta.minWriterVersion = 5)"
    ),
    "renamed column": (
        "ALTER TABLE {} SET TBLPROPERTIES (delta.columnMapping.mode = 'name', "
        "delta.minReaderVersion = 2, delta.minWriterVersion = 5)",
        "ALTER TABLE {} ADD COLUMN note STRING",
        "ALTER TABLE {} RENAME COLUMN note TO remark",
    ),
    "clustering": "ALTER TABLE {} SET TBLPROPERTIES (delta.dataSkippingNumIndexedCols = 2)",
    "append only": "ALTER TABLE {} SET TBLPROPERTIES (delta.appendOnly = true)",
    "checkpoints of version 2": "ALTER TABLE {} SET TBLPROPERTIES (delta.checkpointPolicy = 'v2')",
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_stream_goes_on_after_spark_changed_the_table(
    spark, table, path, write, settings, change
):
    write(0, 4)
    statements = CHANGES[change]
    for each in [statements] if isinstance(statements, str) else statements:
        spark.sql(each.format(f"delta.`{path}`"))
    left = sorted(set(named(0, 4)) - {"0-a"} if "DELETE" in str(statements) else named(0, 4))
    write(4, 7)
    table.maintain(quiet=True)
    Predictions(path).append(rows("last"), "app", 7)
    wanted = sorted([*left, *named(4, 7), "last"])
    assert ids(spark.sql(f"SELECT event_id FROM delta.`{path}`")) == wanted
    assert ids(query(path, "SELECT event_id FROM predictions").to_pylist()) == wanted
    assert doctor.CHECKS["predictions"](settings) == f"{len(wanted)} rows, 0 of them rejected"


@pytest.mark.parametrize("feature", ["RowTracking", "InCommitTimestamps", "TypeWidening"])
def test_a_feature_that_cannot_be_written_is_a_sentence(spark, table, path, write, feature):
    write(0, 2)
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enable{feature} = true)")
    for each in (table, Predictions(path)):
        with pytest.raises(InputError, match=r"cannot write: .*DROP FEATURE"):
            each.append(rows("next"), "app", 3)
