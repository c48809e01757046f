"""streaming.folder.manifests: what is written comes back, and what is damaged is refused."""

import dataclasses
import random

import pyarrow as pa
import pytest

from sightstream.images.event import ImageEvent
from sightstream.tables.schema import EVENT
from streaming.folder.manifests import placed, read, write

EVENTS = [
    ImageEvent("id 1", "folder", "file:///x", "x", 1_763_700_000.123456, 2**40),
    ImageEvent("id 2", "folder", "file:///y", "y", 1.5, 0, "unreadable", "It is a pipe."),
]


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "a.arrow"
    write(made, pa.Table.from_pylist([vars(event) for event in EVENTS], EVENT))
    return made


def test_the_fields_are_those_of_an_event_in_their_order():
    assert EVENT.names == [field.name for field in dataclasses.fields(ImageEvent)]


def test_events_come_back_as_they_were(path):
    assert [ImageEvent(**row) for row in read([path]).to_pylist()] == EVENTS


def test_places_become_uris_of_the_home_in_use_also_those_of_early_releases(tmp_path):
    uris = ["2026-11-28/a.png", "file:///old%20home/images/2026-11-27/b.png"]
    events = pa.Table.from_pylist([{"uri": uri} for uri in uris], EVENT)
    found = placed(events, tmp_path / "new home")
    assert found.schema == EVENT
    home = f"file://{tmp_path}/new%20home"
    assert found["uri"].to_pylist() == [f"{home}/2026-11-28/a.png", f"{home}/2026-11-27/b.png"]
    assert placed(EVENT.empty_table(), tmp_path) == EVENT.empty_table()


def test_a_name_comes_back_as_it_was(tmp_path, weird_name):
    detail = f"it is {weird_name}"
    event = dataclasses.replace(EVENTS[1], original_name=weird_name, error_detail=detail)
    write(tmp_path / "a", pa.Table.from_pylist([vars(event)], EVENT))
    assert read([tmp_path / "a"]).to_pylist() == [vars(event)]


def test_manifests_are_read_in_their_order(path, tmp_path):
    write(tmp_path / "b", pa.Table.from_pylist([{"event_id": "id 3"}], EVENT))
    found = read([tmp_path / "b", path])
    assert found["event_id"].to_pylist() == ["id 3", "id 1", "id 2"]
    assert read([]).schema == EVENT


def test_one_of_which_a_byte_is_another_is_refused(path):
    whole, chance = path.read_bytes(), random.Random(1)
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read([path])
        except ValueError:
            continue
        assert [ImageEvent(**row) for row in found.to_pylist()] == EVENTS


def test_one_that_is_cut_short_anywhere_is_refused(path):
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is cut short"):
            read([path])
        path.write_bytes(whole[:size].ljust(len(whole), b"\0"))
        with pytest.raises(ValueError, match="is cut short"):
            read([path])


def test_bytes_that_changed_are_refused_or_read_and_harm_nothing(path):
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x7F]) + whole[place + 1 :])
        try:
            read([path]).to_pylist()
        except ValueError:
            refused += 1
    assert refused > 100


def test_one_with_other_fields_is_refused(path):
    other = pa.table({"event_id": ["id"], "size": [1]})
    with pa.ipc.new_file(str(path), other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(ValueError, match=r"has the fields \['event_id', 'size'\]"):
        read([path])


def test_one_that_is_away_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        read([tmp_path / "none"])
