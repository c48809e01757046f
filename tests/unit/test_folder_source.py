"""streaming.folder.source, and the reader: manifests as a streaming source of Spark."""

import errno
import json
from threading import Timer

import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.io import disk
from streaming.folder import source as sources
from streaming.folder import spark_reader as module
from streaming.folder.spark_reader import ManifestReader
from tests.intakes import folders


@pytest.fixture
def reader(settings):
    return ManifestReader(settings.manifests, images=3)


def names(reader, start, end):
    (partition,) = reader.partitions(start, end)
    return [name for b in reader.read(partition) for name in b["original_name"].to_pylist()]


def test_a_micro_batch_is_as_many_manifests_as_hold_enough_images(manifest, reader):
    manifest(1, "a", "b")
    second = manifest(2, "c", "d")
    third = manifest(3, "e")
    assert reader.latestOffset() == second
    assert reader.latestOffset() == third


def test_nothing_new_is_the_same_offset_again(manifest, reader):
    begin = reader.initialOffset()
    assert reader.latestOffset() == begin
    first = manifest(1, "a")
    assert reader.latestOffset() == reader.latestOffset() == first


def test_what_comes_while_spark_waits_ends_the_wait(manifest, reader, monkeypatch):
    monkeypatch.setattr(module, "WAIT", 30)
    Timer(0.1, manifest, (1, "a")).start()
    assert names(reader, reader.initialOffset(), reader.latestOffset()) == ["a"]


def test_a_micro_batch_holds_the_events_after_its_start_up_to_its_end(manifest, reader):
    first, second = manifest(1, "a", "b"), manifest(2, "c\nd", "e")
    manifest(3, "f")
    assert names(reader, reader.initialOffset(), second) == ["a", "b", "c\nd", "e"]
    assert names(reader, first, second) == ["c\nd", "e"]


def test_after_a_start_it_goes_on_behind_what_was_planned_before(manifest, reader):
    planned, later = manifest(1, "a", "b", "c"), manifest(2, "d")
    assert names(reader, reader.initialOffset(), planned) == ["a", "b", "c"]
    assert reader.latestOffset() == later


def test_what_is_in_the_table_is_deleted_but_for_the_newest(manifest, reader, settings):
    manifest(1, "a")
    second, third = manifest(2, "b"), manifest(3, "c")
    reader.commit(second)
    left = [path.name for path in sorted(settings.manifests.iterdir())]
    assert left == [second["manifest"], third["manifest"]]


@pytest.fixture
def inbox(settings):
    """A home's inbox as a source, with what it has told to have arrived."""
    told = []
    settings = settings.model_copy(update={"settle_seconds": 0.0})
    made = sources.Folder(
        folders(settings), settings.checkpoint("folder"), settings.acceptance, 100, None,
        told.append,
    )  # fmt: skip
    return made, told


def test_a_micro_batch_that_comes_again_is_counted_once(inbox, settings):
    source, _ = inbox
    for batch, images in enumerate((2, 3)):
        for number in range(images):
            (settings.inbox / f"{batch}-{number}.jpg").write_bytes(b"pixels")
        assert source.drain() == images
        for _ in range(3):
            source.done(batch, images, None)
            assert source.behind == 0


def test_images_have_arrived_although_the_disk_does_not_sync_their_manifest(
    inbox, settings, monkeypatch, caplog
):
    source, told = inbox
    (settings.inbox / "x.jpg").write_bytes(b"pixels")
    sync = disk.sync

    def unsteady(path):
        if path == settings.manifests:
            raise OSError(errno.EIO, "Input/output error")
        sync(path)

    monkeypatch.setattr(disk, "sync", unsteady)
    assert source.drain() == source.behind == sum(told) == 1
    assert f"{settings.manifests}/" in caplog.text
    assert "Input/output error" in caplog.text
    assert source.drain() == 0


def test_a_start_without_the_disk_of_images_that_wait_is_refused(inbox, settings):
    (settings.inbox / "x.jpg").write_bytes(b"pixels")
    assert inbox[0].drain() == 1
    away = settings.images.rename(settings.root / "away")
    start = (folders(settings), settings.checkpoint("folder"), settings.acceptance, 100, None, int)
    with pytest.raises(EnvironmentUnfitError, match="images is empty, and 1 images in it wait"):
        sources.Folder(*start)
    settings.images.rmdir()
    away.rename(settings.images)
    assert sources.Folder(*start).behind == 1


def test_what_waits_is_what_no_committed_micro_batch_holds(manifest, settings):
    first = manifest(1, "a", "b")
    manifest(2, "c", "d\ne", "f")
    assert sources.waiting(settings.manifests, settings.checkpoint("folder")) == 5
    offset = f"v1\n{{}}\n{json.dumps(first)}"
    for folder, content in (("offsets", offset), ("commits", "v1\n{}")):
        path = settings.checkpoint("folder") / folder / "0"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    assert sources.waiting(settings.manifests, settings.checkpoint("folder")) == 3
