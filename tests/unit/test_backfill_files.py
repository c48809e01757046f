"""streaming.backfill.files: the images of a folder as events."""

import os

import pytest

from sightstream.errors import ConfigError, InputError
from streaming.backfill import files

NOW = 1_763_726_400.0


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "photos"
    (made / "deep er").mkdir(parents=True)
    (made / "b.png").write_bytes(b"bb")
    (made / "deep er" / "a#1%.png").write_bytes(b"a")
    (made / "c.png.part").write_bytes(b"unfinished")
    (made / ".DS_Store").write_bytes(b"left alone")
    return made


def ids(folder):
    return files.events(files.listed(str(folder), ())[0], NOW)["event_id"].to_pylist()


def test_files_are_listed_by_their_names_and_what_the_inbox_leaves_alone_is_left_alone(folder):
    (folder / "link.png").symlink_to("/etc/hostname")
    found, unreadable = files.listed(str(folder), ["b.*"])
    assert [each.name for each in found] == ["deep er/a#1%.png", "link.png"]
    assert found[0].uri == f"{folder.as_uri()}/deep%20er/a%231%25.png"
    assert found[0].size == 1
    assert unreadable == {}


def test_a_name_that_is_no_utf_8_is_shown_escaped_and_found_again(folder):
    path = os.fsencode(folder) + b"/\xff.png"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"x")
    (found,) = (each for each in files.listed(str(folder), ())[0] if "xff" in each.name)
    assert found.name == "\\xff.png"
    assert os.fsencode(files.local_path(found.uri)) == path


def test_the_same_files_are_the_same_events_and_a_changed_one_is_another(folder):
    first = ids(folder)
    assert ids(folder) == first
    assert len(set(first)) == 2
    (folder / "b.png").write_bytes(b"longer")
    second = ids(folder)
    assert second[1] == first[1] and second[0] != first[0]
    os.utime(folder / "b.png", (1, 1))
    assert ids(folder)[0] not in {first[0], second[0]}


def test_events_are_of_the_source_backfill_and_arrive_now(folder):
    (first, _) = files.events(files.listed(str(folder), ())[0], NOW).to_pylist()
    assert first["source"] == "backfill"
    assert first["event_time"] == NOW
    assert first["bytes"] == 2
    assert first["error_code"] is None
    assert first["confined"] is False


def test_what_is_no_folder_is_refused_by_its_name(tmp_path):
    with pytest.raises(InputError, match="nowhere is no folder, table or uri of images"):
        files.listed(str(tmp_path / "nowhere"), ())
    for uri in (
        "nosuch://bucket/photos", "s3://name:geheim@bucket/in", "s3://in?geheim=1",
        "s3://[in", "gs://\u2100/geheim", "abfs://geheim@[in/",
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="the uri of a bucket is ") as error:
            files.absolute(uri)
        assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("photos", "{here}/photos"), ("./photos/", "{here}/photos"),
        ("file:///a%20b/c", "/a b/c"), ("s3://bucket/a/", "s3://bucket/a"),
        ("s3a://bucket", "s3://bucket"),
        ("~nobody-has-this-name/x", "{here}/~nobody-has-this-name/x"),
    ],
)  # fmt: skip
def test_a_place_is_an_absolute_path_or_a_uri(place, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.absolute(place) == path.format(here=tmp_path)


def test_a_path_with_a_zero_byte_is_refused():
    with pytest.raises(ConfigError, match=r"^/a\\x00b is the path of no file"):
        files.absolute("file:///a%00b")
