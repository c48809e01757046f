"""streaming.backfill.plan: what is written down once, and what tasks read of it."""

import json
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sightstream.errors import InputError
from sightstream.images.limits import Limits, Rejected
from streaming.backfill import plan
from streaming.backfill.files import found
from streaming.backfill.plan import Wish

WISH = Wish("/photos", "", "leaf@champion", "/home/predictions")
LIMITS = Limits(max_bytes=100)


def events(uris, **columns):
    ids = [f"event {number}" for number in range(len(uris))]
    return found({"event_id": ids, "uri": uris, **columns}, len(uris), 1.0)


def written(folder, made, content=None):
    return plan.write(folder, made, model="leaf@2", source=str(folder.parent), content=content)


def reader(folder, content=None, prefixes=()):
    return plan.PlannedImages(folder, str(folder.parent), content, prefixes, LIMITS)


def read(reader, first, last, tasks=1):
    """The ids and the images that tasks read, in their order."""
    share = plan.assignment(first, last, tasks).text()
    pieces = list(reader(pd.DataFrame({"id": range(tasks)}), share))
    ids = [each for piece, _ in pieces for each in piece["event_id"].to_pylist()]
    return ids, [image for _, images in pieces for image in images]


def test_the_same_command_has_the_same_plan_and_any_other_has_another():
    assert replace(WISH).key == WISH.key
    others = [replace(WISH, **{name: "other"}) for name in vars(WISH)]
    assert len({WISH.key, *(each.key for each in others)}) == 5


def test_a_plan_is_read_as_it_was_written(tmp_path):
    made = written(tmp_path / "plan", events(["/a", "/b"]))
    assert plan.read(tmp_path / "plan") == made
    assert made.images == 2
    plan.forget(tmp_path / "plan")
    assert plan.read(tmp_path / "plan") is None


def test_a_plan_of_which_a_crash_left_the_events_alone_is_none_and_is_made_anew(tmp_path):
    first = written(tmp_path / "plan", events(["/a", "/b"]))
    (tmp_path / "plan" / plan.FACTS).unlink()
    assert plan.read(tmp_path / "plan") is None
    second = written(tmp_path / "plan", events(["/c"]))
    assert second.app_id != first.app_id
    assert read(reader(tmp_path / "plan"), 0, 1) == (["event 0"], ["/c"])


FACTS = {"app_id": "a", "model": "leaf@2", "images": 3, "source": "/photos", "content": None}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 200_000, '{"images": 3}',
     *(json.dumps(FACTS | wrong) for wrong in (
         {"images": "3"}, {"images": True}, {"app_id": 1}, {"source": None}, {"content": 3},
         {"left": []}, {"left": {"gone": None}},
     ))],
)  # fmt: skip
def test_a_damaged_plan_is_one_sentence(tmp_path, text):
    (tmp_path / plan.FACTS).write_text(text)
    with pytest.raises(InputError, match=r"plan\.json is no plan: .*; remove "):
        plan.read(tmp_path)


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_tasks_read_each_event_of_a_range_once(tmp_path, tasks):
    paths = [f"/photos/{number}" for number in range(3000)]
    written(tmp_path / "plan", events(paths))
    ids, images = read(reader(tmp_path / "plan"), 700, 2500, tasks)
    assert images == paths[700:2500]
    assert ids == [f"event {number}" for number in range(700, 2500)]


def test_a_machine_that_sees_less_than_the_plan_fails_instead_of_losing_images(tmp_path):
    written(tmp_path / "plan", events(["/a", "/b"]))
    with pytest.raises(OSError, match="sees 1 of 2 events"):
        read(reader(tmp_path / "plan"), 1, 3)
    with pytest.raises(FileNotFoundError):
        read(reader(tmp_path / "elsewhere"), 0, 1)


def test_a_confined_uri_is_read_below_the_prefixes_alone_and_a_refused_event_has_no_image(tmp_path):
    inside, outside = tmp_path / "in" / "a.png", tmp_path / "b.png"
    uris = [inside.as_uri(), outside.as_uri(), outside.as_uri(), None]
    made = events(
        uris, confined=[True, True, False, False], error_code=[None, None, None, "empty"]
    )  # fmt: skip
    written(tmp_path / "plan", made)
    prefixes = (inside.parent.as_uri(),)
    _, images = read(reader(tmp_path / "plan", prefixes=prefixes), 0, 4)
    assert images[0] == str(inside)
    assert isinstance(images[1], Rejected) and images[1].code == "uri_refused"
    assert images[2:] == [str(outside), None]


def test_images_in_rows_are_read_by_their_number_whatever_the_row_groups(tmp_path):
    held = [bytes([number]) * 9 for number in range(200)] + [None, b"", b"x" * 101]
    path = tmp_path / "k=a b" / "part.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"content": held}), path, row_group_size=70)
    rows = [3, 69, 70, 150, 199, 200, 201, 202]
    uris = [f"file://{tmp_path}/k%3Da%20b/part.parquet#{row}" for row in rows]
    written(tmp_path / "plan", events(uris), "content")
    _, images = read(reader(tmp_path / "plan", "content"), 0, len(rows))
    assert images[:5] == [held[row] for row in rows[:5]]
    assert [image.code for image in images[5:]] == ["empty", "empty", "too_large"]
    _, later = read(reader(tmp_path / "plan", "content"), 2, 4)
    assert later == [held[70], held[150]]


def test_a_worker_holds_few_large_images_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "HELD", 100)
    pq.write_table(pa.table({"content": [b"x" * 60] * 10}), tmp_path / "a.parquet")
    uris = [f"file://{tmp_path}/a.parquet#{row}" for row in range(10)]
    written(tmp_path / "plan", events(uris), "content")
    pieces = list(
        reader(tmp_path / "plan", "content")(
            pd.DataFrame({"id": [0]}), plan.assignment(0, 10, 1).text()
        )
    )
    assert [len(images) for _, images in pieces] == [2] * 5
    assert [len(each) for each, _ in pieces] == [2] * 5


def test_the_plan_is_text_that_a_person_can_read(tmp_path):
    written(tmp_path / "plan", events(["/a"]))
    told = json.loads((tmp_path / "plan" / plan.FACTS).read_text())
    assert (told["model"], told["images"]) == ("leaf@2", 1)


@pytest.mark.parametrize("damage", ["none", "empty", "cut", "zeros", "of another plan", "no list"])
def test_events_that_are_not_those_of_their_plan_are_one_sentence(tmp_path, damage):
    folder, file = tmp_path / "plan", tmp_path / "plan" / plan.EVENTS
    written(folder, events([f"/{number}" for number in range(100)]))
    whole = file.read_bytes()
    written(tmp_path / "other", events(["/a"]))
    content = {
        "empty": b"", "cut": whole[:-100], "zeros": bytes(len(whole)), "no list": b"ARROW1" * 99,
        "of another plan": (tmp_path / "other" / plan.EVENTS).read_bytes(),
    }  # fmt: skip
    file.unlink()
    if damage in content:
        file.write_bytes(content[damage])
    with pytest.raises(
        InputError, match=rf"^{file} is damaged, or not of its plan; remove {folder}"
    ):
        plan.read(folder)


def test_a_uri_of_a_store_that_nobody_reads_costs_its_own_row(tmp_path):
    made = events(["ftp://host/a.png", "file:///nowhere.png"], version=["", ""])
    written(tmp_path / "plan", made)
    _, images = read(reader(tmp_path / "plan"), 0, 2)
    assert isinstance(images[0], Rejected) and images[0].code == "unreadable"
    assert images[1] == "/nowhere.png"
