"""Tests of the comparison between a checkpoint and the predictions table."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from sightstream.config import Broker
from sightstream.errors import CheckpointMismatchError
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from streaming.checkpoint import (
    OWNER,
    app_id,
    begin_anew,
    first_offset,
    offset,
    own,
    planned,
    require_match,
)
from streaming.folder.source import waiting
from streaming.kafka.lag import Topic

NOW = datetime(2026, 5, 1, tzinfo=UTC)
FIELDS = {
    "event_id": "1",
    "source": "folder",
    "status": "ok",
    "processed_at": NOW,
    "date": NOW.date(),
}


# As Spark writes them, the second version of its log too.
OFFSETS = [
    b'v1\n{"batchWatermarkMs":0,"batchTimestampMs":7}\n{"manifest": "17.arrow"}',
    b'v2\n{"batchWatermarkMs":0,"batchTimestampMs":7}\n0:{"images":{"1":22,"0":23}}',
]
COMMITS = [b'v1\n{"nextBatchWatermarkMs":0}', b'v2\n{"nextBatchWatermarkMs":0}']
FIRST = b'\0v1\n{"images":{"1":0,"0":0}}'


def damaged(whole):
    """Cut short anywhere, and with zeros or noise in the place of its end."""
    parts = [whole[:size] for size in range(1, len(whole))]
    return [*parts, *(p.ljust(len(whole), b"\0") for p in parts), bytes(len(whole)), b"\xff" * 99]


def fault(checkpoint, table):
    """The fault that is raised; None where there is none."""
    try:
        require_match(checkpoint, table)
    except CheckpointMismatchError as error:
        return str(error)
    return None


@pytest.fixture
def story(settings):
    """Writes what a stream leaves: batches planned, committed by Spark, and held by the table."""

    def write(*, offsets, commits, table, name="app"):
        folder = settings.checkpoint("folder")
        for kind, count in (("offsets", offsets), ("commits", commits)):
            (folder / kind).mkdir(parents=True)
            for batch in range(count):
                (folder / kind / str(batch)).write_bytes(
                    {"offsets": OFFSETS, "commits": COMMITS}[kind][0]
                )
        (folder / "metadata").write_text(json.dumps({"id": "app"}))
        for batch in range(table):
            rows = pa.Table.from_pylist([{**FIELDS, "event_id": str(batch)}], ROW)
            Predictions(settings.predictions).append(rows, name, batch)
        return lambda: fault(folder, settings.predictions)

    return write


def test_without_a_checkpoint_all_is_well_and_nothing_is_created(settings):
    assert fault(settings.checkpoint("folder"), settings.predictions) is None
    assert not settings.root.exists()


@pytest.mark.parametrize(
    ("offsets", "has_owner", "keeps_its_id"),
    [(0, False, False), (0, True, True), (1, False, True)],
)
def test_a_checkpoint_that_has_planned_nothing_gets_an_id_of_its_own(
    story, settings, offsets, has_owner, keeps_its_id
):
    """So that two copies of a home that has seen no image do not take each other's place."""
    story(offsets=offsets, commits=0, table=0)
    folder = settings.checkpoint("folder")
    if has_owner:
        own(folder, Predictions(settings.predictions))
    begin_anew(folder)
    assert (folder / "metadata").exists() == keeps_its_id
    begin_anew(settings.checkpoint("kafka"))


@pytest.mark.parametrize(
    ("offsets", "commits", "table"),
    [(0, 0, 0), (1, 0, 0), (1, 0, 1), (3, 3, 3), (3, 2, 2), (3, 2, 3)],
    ids=[
        "nothing yet",
        "the first batch is planned",
        "the first batch is only in the table",
        "all is committed",
        "a batch is planned",
        "a batch is only in the table",
    ],
)
def test_a_stream_may_go_on_wherever_a_crash_left_it(story, offsets, commits, table):
    assert story(offsets=offsets, commits=commits, table=table)() is None


@pytest.mark.parametrize(
    ("offsets", "commits", "table", "said"),
    [
        (3, 3, 2, "ends with micro-batch 2, the table"),
        (2, 2, 4, "with 3, so that one of them was replaced"),
        (2, 2, 3, "with 2, so that"),
        (3, 3, 0, "with none, so that"),
    ],
    ids=["table is older", "checkpoint is older", "one ahead but never planned", "no table"],
)
def test_a_replaced_side_is_told(story, settings, offsets, commits, table, said):
    fault = story(offsets=offsets, commits=commits, table=table)()
    assert said in fault
    assert f"mv {settings.checkpoint('folder')} {settings.checkpoint('folder')}.old" in fault
    assert Path(settings.predictions).exists() == (table > 0)


def test_a_table_of_another_checkpoint_holds_none_of_its_batches(story):
    assert "with none" in story(offsets=2, commits=2, table=2, name="another")()


@pytest.mark.parametrize("folder", ["commits", "offsets"])
def test_an_empty_newest_file_is_to_be_removed(story, settings, folder):
    look = story(offsets=3, commits=3 if folder == "commits" else 2, table=2)
    path = settings.checkpoint("folder") / folder / "2"
    path.write_bytes(b"")
    fault = look()
    assert f"{path} is empty" in fault
    assert f"rm -f {path}" in fault
    path.unlink()
    assert look() is None


def test_an_empty_offset_of_a_batch_that_the_table_holds_costs_the_checkpoint(story, settings):
    look = story(offsets=3, commits=2, table=3)
    (settings.checkpoint("folder") / "offsets" / "2").write_bytes(b"")
    assert f"mv {settings.checkpoint('folder')}" in look()


@pytest.mark.parametrize("version", [0, 1])
def test_a_newest_file_that_is_whole_is_no_fault_and_damaged_it_is_to_be_removed(
    story, settings, version
):
    look = story(offsets=4, commits=3, table=3)
    for path, whole in (("commits/2", COMMITS[version]), ("offsets/3", OFFSETS[version])):
        path = settings.checkpoint("folder") / path
        for content in damaged(whole):
            path.write_bytes(content)
            assert (found := look()), content
            assert f"{path} is damaged; remove it: rm -f {path}" in found
        path.write_bytes(whole)
        assert look() is None


@pytest.mark.parametrize(("offsets", "batch"), [(3, 2), (4, 2), (4, 3)])
def test_damaged_offsets_of_what_was_committed_cost_the_checkpoint(story, settings, offsets, batch):
    look = story(offsets=offsets, commits=3, table=1 + max(2, batch))
    path = settings.checkpoint("folder") / "offsets" / str(batch)
    for content in damaged(OFFSETS[0]):
        path.write_bytes(content)
        assert f"{path} is damaged; put the checkpoint aside: mv " in (look() or ""), content


def test_so_does_a_damaged_begin_of_kafka_s_first_micro_batch(story, settings):
    look = story(offsets=1, commits=0, table=0)
    noted = settings.checkpoint("folder") / "sources" / "0" / "0"
    noted.parent.mkdir(parents=True)
    for content in damaged(FIRST):
        noted.write_bytes(content)
        assert f"{noted} is damaged; put the checkpoint aside: mv " in (look() or ""), content
    noted.write_bytes(FIRST)
    assert look() is None
    assert first_offset(settings.checkpoint("folder")) == {"images": {"0": 0, "1": 0}}


def test_who_reads_a_damaged_offset_tells_the_same(story, settings):
    story(offsets=1, commits=1, table=1)
    settings.manifests.mkdir()
    path = settings.checkpoint("folder") / "offsets" / "0"
    assert offset(settings.checkpoint("folder")) == {"manifest": "17.arrow"}
    path.write_bytes(OFFSETS[0][:30])
    with pytest.raises(CheckpointMismatchError, match=f"{path} is damaged; put the checkpoint"):
        waiting(settings.manifests, settings.checkpoint("folder"))


@pytest.fixture(params=[False, True], ids=["before a micro-batch", "owned"])
def begun(story, settings, request):
    """Looks at a checkpoint, also one whose id the stream has noted beside Spark's file."""
    look = story(offsets=1, commits=1, table=1)
    if request.param:
        metadata = settings.checkpoint("folder") / "metadata"
        noted = json.dumps({"id": "app", "inode": metadata.stat().st_ino})
        (settings.checkpoint("folder") / OWNER).write_text(noted)
    assert look() is None
    return look


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"{", "is damaged"), (b"[1]", "is damaged"), (b"\xff", "is damaged")],
)
def test_a_broken_metadata_file_is_told(begun, settings, content, said):
    (settings.checkpoint("folder") / "metadata").write_bytes(content)
    assert f"metadata {said}" in begun()
    with pytest.raises(CheckpointMismatchError, match=said):
        app_id(settings.checkpoint("folder"))


def test_offsets_without_metadata_are_a_broken_checkpoint(begun, settings):
    (settings.checkpoint("folder") / "metadata").unlink()
    assert "metadata cannot be read (No such file" in begun()


def test_the_id_is_what_spark_wrote(story, settings):
    story(offsets=0, commits=0, table=0)
    assert app_id(settings.checkpoint("folder")) == "app"


def test_a_table_that_cannot_be_read_is_told(story, settings):
    look = story(offsets=1, commits=1, table=1)
    for entry in Path(settings.predictions, "_delta_log").glob("*.json"):
        entry.write_text("no json")
    assert f"table {settings.predictions} cannot be read" in look()


@pytest.fixture
def table(settings):
    return Predictions(settings.predictions)


def test_a_checkpoint_keeps_its_id_where_it_is_moved(story, settings, table, tmp_path):
    story(offsets=2, commits=2, table=2)
    assert own(settings.checkpoint("folder"), table) == "app"
    moved = settings.root.rename(tmp_path / "moved") / "checkpoints/folder"
    assert own(moved, Predictions(str(tmp_path / "moved/predictions"))) == "app"
    assert fault(moved, str(tmp_path / "moved/predictions")) is None


def test_a_copy_with_its_own_table_keeps_the_id(story, settings, table, tmp_path):
    story(offsets=2, commits=2, table=2)
    own(settings.checkpoint("folder"), table)
    copy = shutil.copytree(settings.root, tmp_path / "copy")
    assert own(copy / "checkpoints/folder", Predictions(str(copy / "predictions"))) == "app"


@pytest.mark.parametrize("went_on", [0, 1, 5])
def test_a_copy_gets_an_id_of_its_own_in_a_table_that_it_shares(
    story, settings, table, tmp_path, went_on
):
    story(offsets=3, commits=2, table=2)
    first = settings.checkpoint("folder")
    own(first, table)
    copy = shutil.copytree(settings.root, tmp_path / "copy") / "checkpoints/folder"
    for batch in range(2, 2 + went_on):
        rows = pa.Table.from_pylist([{**FIELDS, "event_id": str(batch)}], ROW)
        table.append(rows, "app", batch)
    assert fault(copy, settings.predictions) is None
    name = own(copy, table)
    assert name not in {"app", ""}
    assert (own(copy, table), app_id(copy), own(first, table)) == (name, name, "app")
    assert fault(copy, settings.predictions) is None
    assert table.last_batch(name) == 1


def test_a_copy_that_is_older_than_the_table_is_not_taken_for_one_that_is_newer(
    story, settings, table, tmp_path
):
    story(offsets=3, commits=3, table=1)
    (settings.checkpoint("folder") / "owner").write_text('{"id": "app", "inode": 0}')
    assert "ends with micro-batch 2" in fault(settings.checkpoint("folder"), settings.predictions)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"inode": 1}'])
def test_a_broken_owner_file_is_told(story, settings, content):
    look = story(offsets=1, commits=1, table=1)
    (settings.checkpoint("folder") / "owner").write_text(content)
    assert "owner is " in look()


HEAD = b'v1\n{"batchTimestampMs":7}\n'


@pytest.mark.parametrize(
    "content",
    [None, "a folder", HEAD + b'{"a":' * 100_000, HEAD + b'{"manifest":17}',
     HEAD + b'{"manifest":null}', HEAD + b'{"manifest":["17.arrow"]}', HEAD + b'{"images":[1]}',
     HEAD + b'{"images":{"x":5}}', HEAD + b'{"images":[[]]}', HEAD + b'{"images":{"0":"5"}}',
     HEAD + b'{"images":{"0":1%s}}' % (b"0" * 30), HEAD + b'{"images":{"0":1e9}}'],
)  # fmt: skip
def test_an_offset_that_is_none_costs_the_checkpoint(story, settings, content):
    story(offsets=3, commits=3, table=3)
    folder = settings.checkpoint("folder")
    path = folder / "offsets" / "2"
    path.unlink()
    if content == "a folder":
        path.mkdir()
    elif content:
        path.write_bytes(content)
    settings.manifests.mkdir()
    for look in (
        lambda: waiting(settings.manifests, folder),
        lambda: Topic(Broker("broker:9092"), "images", folder).committed_offsets(),
    ):
        with pytest.raises(CheckpointMismatchError, match=rf"^{path} .*; put the .*: mv {folder} "):
            look()


def test_an_offset_of_another_source_costs_the_checkpoint(story, settings):
    story(offsets=1, commits=1, table=1)
    folder, topic = settings.checkpoint("folder"), Topic(Broker("broker:9092"), "images", Path())
    settings.manifests.mkdir()
    assert waiting(settings.manifests, folder) == 0
    with pytest.raises(CheckpointMismatchError, match="is damaged"):
        replace(topic, checkpoint=folder).committed_offsets()
    (folder / "offsets" / "0").write_bytes(OFFSETS[1])
    assert replace(topic, checkpoint=folder).committed_offsets() == {0: 23, 1: 22}
    with pytest.raises(CheckpointMismatchError, match="is damaged"):
        waiting(settings.manifests, folder)


@pytest.mark.parametrize("content", [b"{}", b'{"batchTimestampMs":"7"}', b"[]"])
def test_a_plan_that_has_no_time_costs_the_checkpoint(story, settings, content):
    story(offsets=1, commits=1, table=1)
    folder = settings.checkpoint("folder")
    (folder / "offsets" / "0").write_bytes(b"v1\n" + content + b'\n{"manifest":"17.arrow"}')
    with pytest.raises(CheckpointMismatchError, match="is damaged; put the checkpoint aside"):
        planned(folder, 0)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"id": 5}', '{"id": null}', '[["id", 1]]'])
def test_an_id_that_is_none_costs_the_checkpoint(story, settings, content):
    look = story(offsets=1, commits=1, table=1)
    (settings.checkpoint("folder") / "metadata").write_text(content)
    assert "metadata is damaged; put the checkpoint aside" in look()


def test_a_folder_in_the_place_of_a_newest_file_is_to_be_removed(story, settings):
    look = story(offsets=3, commits=3, table=3)
    path = settings.checkpoint("folder") / "commits" / "2"
    path.unlink()
    path.mkdir()
    assert f"{path} cannot be read (Is a directory); remove it: rm -rf {path}" in look()
