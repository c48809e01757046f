"""What upkeep removes: folders of images that are old, and none of an image without a row."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from sightstream.tables.schema import EVENT
from streaming import upkeep
from streaming.folder.manifests import PENDING, publish, write
from streaming.folder.source import held

HOUR = timedelta(hours=1)


@pytest.fixture
def now():
    return datetime.now(UTC)


@pytest.fixture
def images(tmp_path, now):
    """Folders of images: by name, an hour and more ago, just now, and of an early release."""
    for span in (now - 3 * HOUR, now - 2 * HOUR, now):
        keep(tmp_path / "images", place(span), "1.jpg")
    keep(tmp_path / "images", "2024-02-29", "2.jpg")
    (tmp_path / "images" / "of others").mkdir()
    return tmp_path / "images"


def place(at):
    return at.strftime("%Y-%m-%d/%H") + f"{at.minute // 10}0"


def keep(images, folder, name):
    (images / folder).mkdir(parents=True, exist_ok=True)
    (images / folder / name).write_bytes(b"pixels")


def left(images):
    return {str(path.relative_to(images)) for path in images.rglob("*.jpg")}


def test_folders_go_once_all_of_their_images_are_old(images, now):
    upkeep.expire(images, HOUR, set)
    assert left(images) == {f"{place(now)}/1.jpg"}
    assert sorted(p.name for p in images.iterdir()) == sorted({place(now)[:10], "of others"})


def test_a_folder_whose_last_minutes_are_young_stays(images, now):
    upkeep.expire(images, 2 * HOUR + timedelta(minutes=11), set)
    assert left(images) == {f"{place(at)}/1.jpg" for at in (now - 2 * HOUR, now)}


def test_without_a_retention_all_stay_and_nobody_is_asked(images):
    before = left(images)
    upkeep.expire(images, timedelta(0), None)
    assert left(images) == before


def test_a_folder_with_an_image_that_has_no_row_stays(images, now):
    waiting = {f"{place(now - 3 * HOUR)}/1.jpg", "2024-02-29/2.jpg"}
    upkeep.expire(images, HOUR, lambda: waiting)
    assert left(images) == waiting | {f"{place(now)}/1.jpg"}


def events(*places):
    columns = {name: [None] * len(places) for name in EVENT.names} | {"uri": list(places)}
    columns |= {"event_time": [0.0] * len(places), "bytes": [1] * len(places)}
    return EVENT.empty_table().from_pydict(columns, EVENT)


def test_images_without_a_row_are_those_of_manifests_after_the_last_commit_and_those_that_move(
    tmp_path,
):
    manifests, checkpoint = tmp_path / "manifests", tmp_path / "checkpoint"
    assert held(manifests, checkpoint) == set()
    manifests.mkdir()
    for name in ("a/1.jpg", "b/2.jpg", "c/3.jpg"):
        write(manifests / PENDING, events(name))
        publish(manifests, manifests / PENDING)
    write(manifests / PENDING, events("d/4.jpg"))
    assert held(manifests, checkpoint) == {"a/1.jpg", "b/2.jpg", "c/3.jpg", "d/4.jpg"}
    first = min(manifests.glob("*.arrow"))
    for folder, text in (("offsets", f"v1\n{{}}\n{json.dumps({'manifest': first.name})}"),
                         ("commits", "v1\n{}")):  # fmt: skip
        (checkpoint / folder).mkdir(parents=True)
        (checkpoint / folder / "0").write_text(text)
    assert held(manifests, checkpoint) == {"b/2.jpg", "c/3.jpg", "d/4.jpg"}
    (manifests / PENDING).write_bytes(b"cut")
    max(manifests.glob("*.arrow")).write_bytes(b"cut")
    with pytest.raises(ValueError, match="cut short"):
        held(manifests, checkpoint)
