"""Neighbours: other jobs change the predictions table, and everything of ours goes on."""

import itertools
import json
import re
import shutil
import string
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import duckdb  # noqa: F401  the example of the docs uses it
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

from sightstream import config
from sightstream.cli import doctor
from sightstream.errors import InputError
from sightstream.tables import commits, predictions
from sightstream.tables.labels import Labels
from sightstream.tables.predictions import Predictions
from sightstream.tables.query import Filter, query, snapshot
from sightstream.tables.schema import ROW
from streaming.observe import probes, status

NOW = datetime.now(UTC)
IDS = [f"{batch}-{number}" for batch in range(3) for number in range(10)]


def rows(*event_ids, **changes):
    required = {"source": "folder", "status": "ok", "processed_at": NOW, "date": NOW.date()}
    answer = {"event_time": NOW, "label": "cat", "score": 0.5, "model": "starter"}
    more = required | answer | changes
    return pa.Table.from_pylist([{"event_id": each} | more for each in event_ids], ROW)


@pytest.fixture
def settings(tmp_path):
    return config.Settings(home=tmp_path)


@pytest.fixture
def path(settings):
    return settings.predictions


@pytest.fixture
def table(path, monkeypatch):
    monkeypatch.setattr(predictions, "LOOK", 0.0)
    made = Predictions(path)
    for batch in range(3):
        ids = IDS[10 * batch : 10 * batch + 10]
        bad = rows(*ids[8:], status="rejected", label=None, model=None, error_code="corrupt")
        made.append(pa.concat_tables([rows(*ids[:8]), bad]), "app", batch)
    return made


def merge(table):
    source = rows("0-0", "merged", label="dog")
    return (
        table.merge(source, "t.event_id = s.event_id", source_alias="s", target_alias="t")
        .when_matched_update({"label": "s.label"})
        .when_not_matched_insert_all()
        .execute()
    )


def overwrite(table):
    write_deltalake(table, table.to_pyarrow_table(), mode="overwrite")


def restore(table):
    before = table.version()
    table.delete("event_id = '0-0'")
    table.restore(before)


def statistics(table):
    """A file has those of one column, and files from now on those of others."""
    table.alter.set_table_properties({"delta.dataSkippingStatsColumns": "source"})
    DeltaTable(table.table_uri).optimize.compact()
    columns = "source,event_id,label,error_code,event_time"
    DeltaTable(table.table_uri).alter.set_table_properties(
        {"delta.dataSkippingStatsColumns": columns}
    )


CHANGES = {
    "delete": lambda table: table.delete("event_id in ('0-1', '1-1')"),
    "delete of a file's rows": lambda table: table.delete("event_id like '1-%'"),
    "update": lambda table: table.update({"error_detail": "'seen'"}, predicate="label = 'cat'"),
    "merge": merge,
    "column": lambda table: table.alter.add_columns([Field('by"whom', PrimitiveType("string"))]),
    "compact": lambda table: table.optimize.compact(),
    "z-order": lambda table: table.optimize.z_order(["event_id"]),
    "change feed": lambda table: table.alter.set_table_properties(
        {"delta.enableChangeDataFeed": "true"}
    ),
    "overwrite": overwrite,
    "restore": restore,
    "statistics": statistics,
}


@pytest.fixture(params=CHANGES)
def left(request, table, path):
    """The event ids that are left after another job, and those that it added."""
    CHANGES[request.param](DeltaTable(path))
    return sorted(DeltaTable(path).to_pyarrow_table(columns=["event_id"])["event_id"].to_pylist())


def new(path, version):
    return [row["event_id"] for row in predictions.added(path, version)]


def test_every_reader_answers_after_another_job_changed_the_table(left, path, settings, tmp_path):
    good = [each for each in left if each[2:] not in {"8", "9"}]
    found = query(path, "SELECT count(*) n FROM predictions WHERE event_id = '0-0'")
    assert found["n"].to_pylist() == [1]
    letters = query(path, "SELECT event_id FROM dead_letters WHERE error_code = 'corrupt'")
    assert sorted(letters["event_id"].to_pylist()) == sorted(set(left) - set(good))
    assert predictions.models_of(path, [*left, "none"]).keys() == set(left)
    assert f"{len(left)} rows, {len(left) - len(good)} of them rejected" in doctor.CHECKS[
        "predictions"
    ](settings)
    assert status.rows(path)["rows_today"] == len(left)
    assert dict(probes.Table(path)())["table_rows"] == len(left)
    Labels(tmp_path / "labels").put({"0-2": "dog"}, "me")
    with snapshot(path, labels=tmp_path / "labels") as now:
        wanted = Filter(status="ok", sources=("folder",))
        assert sorted(row["event_id"] for row in now.newest(wanted, 99)) == good
        assert "cat" in now.kinds().labels
        assert {row["event_id"] for row in now.uncertain("starter", 99, ["0-0"])} == (
            set(good) - {"0-0", "0-2"}
        )
        assert now.row("0-0")["event_id"] == "0-0"
        assert now.trend(Filter(labels=("cat",)), 5).num_rows


def test_the_stream_goes_on_after_another_job_changed_the_table(left, table, path):
    ids, days = pa.chunked_array([[*left, "none"]]), pa.chunked_array([[NOW.date()]])
    assert table.known(ids, days) == set(left)
    for batch, opened in enumerate((table, Predictions(path))):
        opened.append(rows(f"next-{batch}"), "app", 3 + batch)
        assert opened.last_batch("app") == 3 + batch
        assert new(path, predictions.version(path)) == [f"next-{batch}"]
    table.maintain(quiet=True)
    found = DeltaTable(path).to_pyarrow_table(columns=["event_id"])["event_id"].to_pylist()
    assert sorted(found) == sorted([*left, "next-0", "next-1"])
    assert table.known(ids, days) == set(left)


def test_rows_that_another_job_wrote_anew_are_not_new(left, path):
    last = predictions.version(path)
    assert new(path, last) == (["merged"] if "merged" in left else [])


def test_the_example_of_the_docs_answers_after_another_job_changed_rows(table, path, capsys):
    DeltaTable(path).delete("event_id = '0-1'")
    docs = Path(__file__).parents[2] / "docs/rows-out.md"
    (code,) = re.findall(r"```python\n(.*?)```", docs.read_text(), re.DOTALL)
    exec(code.replace("data/predictions", path), {})
    assert re.search(r"cat\s+│\s+23", capsys.readouterr().out)


def test_columns_of_others_are_null_in_new_rows_and_their_wider_types_are_kept(table, path):
    DeltaTable(path).alter.add_columns(
        [Field("reviewed_by", PrimitiveType("string")), Field("weight", PrimitiveType("double"))]
    )
    table.append(rows("next"), "app", 3)
    (row,) = query(path, "SELECT * FROM predictions WHERE event_id = 'next'").to_pylist()
    assert (row["reviewed_by"], row["weight"], row["label"]) == (None, None, "cat")


def test_a_column_that_others_demand_is_refused_with_a_sentence(tmp_path):
    path = str(tmp_path / "predictions")
    demanding = ROW.append(pa.field("reviewed_by", pa.string(), nullable=False))
    DeltaTable.create(path, demanding, partition_by=["date"])
    with pytest.raises(InputError, match="columns reviewed_by: those that others add must be nul"):
        Predictions(path)


def test_a_column_of_ours_that_is_gone_is_refused_where_it_is_required(tmp_path):
    path = str(tmp_path / "predictions")
    without = [field for field in ROW if field.name not in {"event_id", "label"}]
    DeltaTable.create(path, pa.schema(without), partition_by=["date"])
    with pytest.raises(InputError, match=r"columns event_id: .*ours must stay"):
        Predictions(path)


def test_a_table_of_an_earlier_schema_is_written_to(tmp_path):
    path = str(tmp_path / "predictions")
    DeltaTable.create(
        path, pa.schema(field for field in ROW if field.name != "top"), partition_by=["date"]
    )
    Predictions(path).append(rows("a"), "app", 0)
    assert new(path, 1) == ["a"]


def test_a_table_of_the_first_release_gets_the_columns_that_came_later(tmp_path):
    path, now = str(tmp_path / "predictions"), rows("a")
    first = pa.schema(field for field in ROW if field.name != "also")
    table = DeltaTable.create(path, first, partition_by=["date"])
    write_deltalake(table, rows("old").select(first.names), mode="append")
    assert [row["event_id"] for row in predictions.latest(path, 5).to_pylist()] == ["old"]
    assert sum(map(len, predictions.since(path, datetime(2000, 1, 1, tzinfo=UTC)))) == 1
    with snapshot(path) as looked:
        assert "also" not in looked.newest(Filter(), 5)[0]
    also = [{"model": "pests", "version": 1, "alias": "champion", "label": "mite", "score": 0.5,
             "top": [{"label": "mite", "score": 0.5}]}]  # fmt: skip
    answered = now.set_column(now.column_names.index("also"), ROW.field("also"), [[also]])
    for _ in range(2):  # the second start finds the column
        opened = Predictions(path)
    opened.append(answered, "app", 0)
    assert DeltaTable(path).version() == 3
    found = {
        row["event_id"]: row["also"] for row in DeltaTable(path).to_pyarrow_table().to_pylist()
    }
    assert found == {"old": None, "a": also}
    opened.maintain(quiet=True)
    assert DeltaTable(path).to_pyarrow_table().num_rows == 2


def test_commits_go_on_while_others_alter_the_table(table, path):
    for number in range(20):
        DeltaTable(path).alter.add_columns([Field(f"note_{number}", PrimitiveType("string"))])
        table.append(rows(f"next-{number}"), "app", 3 + number)
    assert DeltaTable(path).count() == 50


def enter(path, *actions):
    entry = Path(path, "_delta_log", f"{predictions.version(path) + 1:020d}.json")
    entry.write_text("\n".join(map(json.dumps, actions)))


def actions(path, kind):
    log = sorted(Path(path, "_delta_log").glob("*.json"))
    lines = (json.loads(line) for entry in log for line in entry.read_text().splitlines())
    return [each for each in lines if kind in each]


def turn_on(path, feature, reader=False, **configuration):
    """Turn on a feature of the table, as Delta Lake's Spark does."""
    names = {"writerFeatures": [feature, "appendOnly", "invariants"], "minWriterVersion": 7}
    names |= {"readerFeatures": [feature]} if reader else {}
    meta = actions(path, "metaData")[-1]
    meta["metaData"]["configuration"] |= configuration
    enter(path, {"protocol": {"minReaderVersion": 3 if reader else 1, **names}}, meta)


def map_columns(path):
    meta = actions(path, "metaData")[-1]
    schema, numbers = json.loads(meta["metaData"]["schemaString"]), itertools.count(1)

    def walk(kind):
        if isinstance(kind, dict):
            for field in kind.get("fields", ()):
                name = {"id": next(numbers), "physicalName": field["name"]}
                field["metadata"] |= {f"delta.columnMapping.{k}": v for k, v in name.items()}
                walk(field["type"])
            walk(kind.get("elementType"))

    walk(schema)
    meta["metaData"]["schemaString"] = json.dumps(schema)
    highest = str(next(numbers))
    mode = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": highest}
    meta["metaData"]["configuration"] |= mode
    enter(path, {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, meta)


def mask(path):
    """Delete the first row of the table's first file by a deletion vector."""
    vectors = {"delta.enableDeletionVectors": "true"}
    turn_on(path, "deletionVectors", reader=True, **vectors)
    rows = struct.pack("<IIHHIH", 12346, 1, 0, 0, 16, 0)  # a roaring bitmap of row 0
    bitmap = struct.pack("<iqi", 1681511377, 1, 0) + rows
    name = uuid4()
    content = struct.pack(">BI", 1, len(bitmap)) + bitmap + struct.pack(">I", zlib.crc32(bitmap))
    Path(path, f"deletion_vector_{name}.bin").write_bytes(content)
    add = next(each["add"] for each in actions(path, "add"))
    vector = {
        "storageType": "u", "pathOrInlineDv": z85(name.bytes), "offset": 1,
        "sizeInBytes": len(bitmap), "cardinality": 1,
    }  # fmt: skip
    stats = json.dumps({**json.loads(add["stats"]), "tightBounds": False})
    removed = {"path": add["path"], "dataChange": True, "deletionTimestamp": 1}
    enter(
        path, {"commitInfo": {"operation": "DELETE"}}, {"remove": removed},
        {"add": {**add, "stats": stats, "deletionVector": vector}},
    )  # fmt: skip


def z85(content):
    numbers = [int.from_bytes(content[at : at + 4]) for at in range(0, len(content), 4)]
    signs = (
        f"{string.digits}{string.ascii_lowercase}{string.ascii_uppercase}.-:+=^!/*?&<>()[]{{}}@%$#"
    )
    return "".join(signs[each // 85**power % 85] for each in numbers for power in range(4, -1, -1))


FEATURES = {
    "deletion vectors": mask,
    "column mapping": map_columns,
    "checkpoints of version 2": lambda path: turn_on(path, "v2Checkpoint", reader=True),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_the_stream_and_the_readers_go_on_with_a_feature_of_delta(
    feature, table, path, settings, monkeypatch
):
    FEATURES[feature](path)
    left = IDS[feature == "deletion vectors" :]
    table.append(rows("next"), "app", 3)
    monkeypatch.setattr(table, "_history", timedelta(0))
    for _ in range(2):
        table.maintain(quiet=True)
        table._clean_up()
        again = Predictions(path)
        assert again.last_batch("app") == 3
        ids, days = pa.chunked_array([[*left, "none"]]), pa.chunked_array([[NOW.date()]])
        assert again.known(ids, days) == set(left)
        found = query(path, "SELECT event_id FROM predictions")["event_id"].to_pylist()
        assert sorted(found) == sorted([*left, "next"])
        assert predictions.models_of(path, ["0-0", "0-1"]).keys() == {"0-0", "0-1"} & set(left)
        assert len(query(path, "SELECT * FROM dead_letters WHERE error_code = 'corrupt'")) == 6
        assert doctor.CHECKS["predictions"](settings).startswith(f"{len(left) + 1} rows, 6")
        assert status.rows(path)["rows_today"] == len(left) + 1


@pytest.mark.parametrize("merges", ["before", "after"])
def test_doubled_rows_are_left_out_where_there_are_deletion_vectors(table, path, merges):
    if merges == "after":
        mask(path)
    table.append(rows("x"), "app", 3)
    for each in [DeltaTable(path), DeltaTable(path)]:
        each.optimize.compact()
    table.maintain(quiet=False)
    found = DeltaTable(path).scan(["event_id"]).read_all()
    left = IDS[merges == "after" :]
    assert sorted(pa.table(found)["event_id"].to_pylist()) == sorted([*left, "x"])


@pytest.mark.parametrize("feature", ["rowTracking", "inCommitTimestamp", "clustering", "anything"])
def test_a_feature_that_cannot_be_written_is_a_sentence(feature, table, path):
    turn_on(path, feature)
    for each in (table, Predictions(path)):
        with pytest.raises(InputError, match=r"cannot write: .*DROP FEATURE"):
            each.append(rows("next"), "app", 3)
    assert len(query(path, "SELECT event_id FROM predictions")) == 30


@pytest.mark.parametrize("feature", ["typeWidening", "anything"])
def test_a_feature_that_cannot_be_read_is_a_sentence(feature, table, path):
    turn_on(path, feature, reader=True)
    with pytest.raises(InputError, match=f"the table {path} cannot be read"):
        query(path, "SELECT event_id FROM predictions")
    with pytest.raises(InputError, match=f"the table {path} cannot be read"):
        status.rows(path)


def test_a_damaged_file_is_named_and_no_restore_of_the_table_advised(table, path, settings):
    file = next(Path(path).glob("date=*/*.parquet"))
    file.unlink()
    with pytest.raises(Exception, match=file.name) as failed:
        doctor.CHECKS["predictions"](settings)
    assert "restore this file from a backup" in str(failed.value)
    DeltaTable(path).repair()
    assert doctor.CHECKS["predictions"](settings) == "20 rows, 4 of them rejected"


def test_doctor_tells_with_which_version_a_reader_can_begin(settings):
    assert doctor.CHECKS["history"](settings) == "no table yet"
    Predictions(settings.predictions).append(rows("a"), "app", 0)
    assert "can begin with version 0, 2" in doctor.CHECKS["history"](settings)
    DeltaTable(settings.predictions).create_checkpoint()
    Path(settings.predictions, "_delta_log", f"{0:020d}.json").unlink()
    assert "can begin with version 1, 2" in doctor.CHECKS["history"](settings)


def make_anew(path, versions=0):
    held = DeltaTable(path).to_pyarrow_table()
    shutil.rmtree(path)
    write_deltalake(path, held, partition_by=["date"])
    other = Predictions(path)
    for batch in range(versions):
        other.append(rows(f"other-{batch}"), "other", batch)


REPLACED = {
    "made anew": make_anew,
    "made anew, as long": lambda path: make_anew(path, 3),
    "made anew, and longer": lambda path: make_anew(path, 9),
    "removed": shutil.rmtree,
}


def log(path):
    return {file.name: file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


@pytest.mark.parametrize("feature", [None, "change feed"])
@pytest.mark.parametrize("replace", REPLACED)
def test_another_table_in_the_place_of_the_streams_is_left_alone(replace, feature, table, path):
    if feature:
        CHANGES[feature](DeltaTable(path))
        table.append(rows("next"), "app", 3)
    REPLACED[replace](path)
    before = log(path)
    for use in (
        lambda: table.append(rows("lost"), "app", 4),
        lambda: table.last_batch("app"),
        lambda: table.mark("name", 1),
        lambda: table.append(rows("lost"), "app", 4),
    ):
        with pytest.raises(InputError, match=r"another table .*Start the stream again"):
            use()
    assert log(path) == before


def test_a_table_restored_from_a_shorter_backup_is_left_alone(table, path):
    shutil.copytree(path, f"{path}.backup")
    table.append(rows("later"), "app", 3)
    shutil.rmtree(path)
    shutil.copytree(f"{path}.backup", path)
    before = log(path)
    with pytest.raises(InputError, match="version 4 of its log is gone"):
        table.append(rows("lost"), "app", 4)
    assert log(path) == before
    write_deltalake(path, rows("other"), mode="append")
    with pytest.raises(InputError, match="version 4 of its log is another one"):
        table.append(rows("lost"), "app", 4)


def test_a_copy_of_the_table_in_its_place_is_the_same_table(table, path):
    shutil.move(path, f"{path}.moved")
    shutil.copytree(f"{path}.moved", path)
    table.append(rows("next"), "app", 3)
    assert len(Predictions(path)._table.to_pyarrow_table()) == 31


@pytest.mark.parametrize("at", ["link", "write"])
def test_a_table_made_anew_within_a_commit_is_left_alone(at, table, path, monkeypatch):
    """Another table takes the place at the last moment before the entry is made."""
    link, added = commits.os.link, commits.added

    def linked(*args):
        entry = args[1].parent
        shutil.rmtree(path)
        write_deltalake(path, rows("anew"), partition_by=["date"])
        args[0].write_text("")
        link(*args)
        assert len(list(entry.glob("0*.json"))) == 2

    def made(*args, **options):
        done = added(*args, **options)
        shutil.rmtree(path)
        write_deltalake(path, rows("anew"), partition_by=["date"])
        return done

    if at == "write":
        monkeypatch.setattr(commits, "added", made)
    else:
        monkeypatch.setattr(commits.os, "link", linked)
    with pytest.raises(InputError, match="another table"):
        table.append(rows("lost"), "app", 3)
    assert [each.name for each in Path(path, "_delta_log").iterdir()] == [f"{0:020d}.json"]
    assert DeltaTable(path).count() == 1


def test_a_head_whose_entry_a_checkpoint_replaced_is_the_same_table(table, path):
    DeltaTable(path).create_checkpoint()
    for entry in Path(path, "_delta_log").glob("*.json"):
        entry.unlink()
    table.append(rows("next"), "app", 3)
    Predictions(path).append(rows("then"), "app", 4)
    table.append(rows("last"), "app", 5)
    assert DeltaTable(path).count() == 33


def partition_anew(path, columns):
    held = DeltaTable(path).to_pyarrow_table()
    write_deltalake(
        path, held, mode="overwrite", schema_mode="overwrite", partition_by=columns or None
    )


def answers(path):
    held = DeltaTable(path).to_pyarrow_table(columns=["event_id", "label", "status", "source"])
    return sorted(map(tuple, (row.values() for row in held.to_pylist())))


PARTITIONS = [["date", "label"], ["date", "status"], ["source"], ["model_version", "date"]]


@pytest.mark.parametrize("columns", PARTITIONS, ids=" ".join)
@pytest.mark.parametrize("label", ["cat", "a b/ü%=é"])
def test_a_table_that_is_partitioned_anew_keeps_every_value(columns, label, table, path):
    partition_anew(path, columns)
    wanted = answers(path)
    for batch, opened in enumerate((table, table, Predictions(path))):
        opened.append(rows(f"next-{batch}", label=label), "app", 3 + batch)
        assert opened.last_batch("app") == 3 + batch
        (row,) = predictions.added(path, predictions.version(path))
        assert (row["label"], row["status"], row["date"]) == (label, "ok", NOW.date())
        wanted.append((f"next-{batch}", label, "ok", "folder"))
    wanted.sort()
    assert answers(path) == wanted
    assert DeltaTable(path).metadata().partition_columns == columns
    for opened in (table, Predictions(path)):
        opened.maintain(quiet=True)
        assert answers(path) == wanted
    assert table.mark("name", 7) == 7
    ids, days = pa.chunked_array([["0-0", "next-1", "none"]]), pa.chunked_array([[NOW.date()]])
    assert table.known(ids, days) == {"0-0", "next-1"}
    with snapshot(path) as now:
        assert len(now.newest(Filter(since=NOW - timedelta(1)), 99)) == 33
        assert label in now.kinds().labels
    assert predictions.doubles.count(DeltaTable(path)) == 0


@pytest.mark.parametrize("columns", PARTITIONS, ids=" ".join)
def test_doubled_rows_are_left_out_of_a_table_that_is_partitioned_anew(columns, table, path):
    partition_anew(path, columns)
    table.append(rows("next-0", "next-1", label="a b/ü%=é"), "app", 3)
    table.append(rows("next-2", label="a b/ü%=é"), "app", 4)
    wanted = answers(path)
    for each in [DeltaTable(path), DeltaTable(path)]:
        each.optimize.compact()
    assert predictions.doubles.count(DeltaTable(path)) > 0
    table.maintain(quiet=False)
    assert answers(path) == wanted
    assert predictions.doubles.count(DeltaTable(path)) == 0


def test_a_version_with_doubled_rows_that_is_restored_is_put_right(table, path):
    for each in [DeltaTable(path), DeltaTable(path)]:
        each.optimize.compact()
    doubled = predictions.version(path)
    for number in (3, 4):
        table.maintain(quiet=True)
        assert len(answers(path)) == 30
        DeltaTable(path).restore(doubled)
        assert len(answers(path)) > 30
        table.append(rows("next"), "app", number)
        table.maintain(quiet=False)
        assert answers(path) == sorted({*answers(path)})
        assert len(answers(path)) == 31
        Predictions(path).maintain(quiet=True)
        assert len(answers(path)) == 31
        DeltaTable(path).delete("event_id = 'next'")


def test_a_restart_after_a_restore_of_doubled_rows_keeps_their_last_copy(table, path):
    for each in [DeltaTable(path), DeltaTable(path)]:
        each.optimize.compact()
    doubled, wanted = predictions.version(path), sorted({*answers(path)})
    table.maintain(quiet=True)
    DeltaTable(path).restore(doubled)
    for opened in (table, Predictions(path), Predictions(path)):
        opened.maintain(quiet=True)
        assert answers(path) == wanted
