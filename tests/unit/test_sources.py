"""streaming.sources, and the reader: manifests as a streaming source of Spark."""

import json

import pandas as pd
import pytest

from sightstream.events import ImageEvent
from streaming import sources
from streaming.reader import ManifestReader


@pytest.fixture
def tell(settings):
    """Writes a manifest under a number, with a line for each of these names."""
    settings.manifests.mkdir(parents=True)

    def write(number, *names):
        events = [ImageEvent(f"id of {n}", "folder", f"file:///{n}", n, 1.5, 9) for n in names]
        path = settings.manifests / f"{number:020d}.jsonl"
        path.write_text("".join(event.to_line() + "\n" for event in events))
        return {"manifest": path.name}

    return write


@pytest.fixture
def reader(settings):
    return ManifestReader(settings.manifests, images=3)


def names(reader, start, end):
    (partition,) = reader.partitions(start, end)
    return [name for b in reader.read(partition) for name in b["original_name"].to_pylist()]


def test_a_micro_batch_is_as_many_manifests_as_hold_enough_images(tell, reader):
    tell(1, "a", "b")
    second = tell(2, "c", "d")
    third = tell(3, "e")
    assert reader.latestOffset() == second
    assert reader.latestOffset() == third


def test_nothing_new_is_the_same_offset_again(tell, reader):
    begin = reader.initialOffset()
    assert reader.latestOffset() == begin
    first = tell(1, "a")
    assert reader.latestOffset() == reader.latestOffset() == first


def test_a_micro_batch_holds_the_events_after_its_start_up_to_its_end(tell, reader):
    first, second = tell(1, "a", "b"), tell(2, "c\nd", "e")
    tell(3, "f")
    assert names(reader, reader.initialOffset(), second) == ["a", "b", "c\nd", "e"]
    assert names(reader, first, second) == ["c\nd", "e"]


def test_after_a_start_it_goes_on_behind_what_was_planned_before(tell, reader):
    planned, later = tell(1, "a", "b", "c"), tell(2, "d")
    assert names(reader, reader.initialOffset(), planned) == ["a", "b", "c"]
    assert reader.latestOffset() == later


def test_what_is_in_the_table_is_deleted_but_for_the_newest(tell, reader, settings):
    tell(1, "a")
    second, third = tell(2, "b"), tell(3, "c")
    reader.commit(second)
    left = [path.name for path in sorted(settings.manifests.iterdir())]
    assert left == [second["manifest"], third["manifest"]]


def test_what_waits_is_what_no_committed_micro_batch_holds(tell, settings):
    first = tell(1, "a", "b")
    tell(2, "c", "d\ne", "f")
    assert sources.waiting(settings) == 5
    offset = f"v1\n{{}}\n{json.dumps(first)}"
    for folder, content in (("offsets", offset), ("commits", "v1\n{}")):
        path = settings.checkpoint("folder") / folder / "0"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    assert sources.waiting(settings) == 3


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
def test_the_shares_of_all_tasks_are_the_lines_in_their_order(tell, settings, tasks):
    for number, told in enumerate(("abc", "d", "efgh"), start=1):
        tell(number, *told)
    settings.images.mkdir()
    shares = sources.Shares(settings.images, settings.manifests)
    all_of_it = json.dumps([{}, {"manifest": f"{3:020d}.jsonl"}, 8, tasks])
    taken = [list(shares(pd.DataFrame({"id": [number]}), all_of_it)) for number in range(tasks)]
    pieces = [piece for share in taken for piece in share]
    assert [n for events, _ in pieces for n in events["original_name"].to_pylist()] == [*"abcdefgh"]
    assert [path for _, images in pieces for path in images] == [f"/{n}" for n in "abcdefgh"]
    sizes = [sum(len(images) for _, images in share) for share in taken]
    assert max(sizes) - min(sizes) <= 1


def test_an_event_that_was_refused_has_no_image(settings):
    settings.images.mkdir(parents=True)
    settings.manifests.mkdir()
    manifest = settings.manifests / f"{1:020d}.jsonl"
    refused = ImageEvent("id", "folder", "file:///x", "x", 1.5, 0, "unreadable", "It is a pipe.")
    manifest.write_text(refused.to_line() + "\n")
    ((events, images),) = sources.Shares(settings.images, settings.manifests)(
        pd.DataFrame({"id": [0]}), json.dumps([{}, {"manifest": manifest.name}, 1, 1])
    )
    assert images == [None]
    assert events["error_code"].to_pylist() == ["unreadable"]


def test_a_share_comes_in_pieces(tell, settings):
    settings.images.mkdir(parents=True)
    end = tell(1, *map(str, range(2500)))
    shares = sources.Shares(settings.images, settings.manifests)
    pieces = shares(pd.DataFrame({"id": [0]}), json.dumps([{}, end, 2500, 1]))
    assert [len(images) for _, images in pieces] == [1024, 1024, 452]
