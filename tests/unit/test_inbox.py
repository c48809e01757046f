"""producers.inbox: what is dropped, at which rate, and that it appears whole."""

import os
import time
from itertools import islice
from pathlib import Path

import pytest

from producers.inbox import dropping, find, paced, require_apart
from sightstream.errors import EnvironmentUnfitError, InputError


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "my photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "sub/.hidden.png"):
        (folder / name).write_bytes(name.encode())
    return folder


def names(found):
    return [str(name) for _, name in found]


def test_a_file_keeps_its_name(photos):
    assert list(find([photos / "a.jpg"])) == [(photos / "a.jpg", Path("a.jpg"))]


def test_a_folder_keeps_its_structure_from_its_own_name_on(photos):
    expected = ["my photos/a.jpg", "my photos/b.jpg", "my photos/sub/.hidden.png"]
    assert names(find([photos])) == expected


def test_the_folder_one_stands_in_has_a_name_too(photos, monkeypatch):
    monkeypatch.chdir(photos / "sub")
    (found,) = find([photos / "sub" / "."])
    assert str(found[1]) == "sub/.hidden.png"


def test_several_paths_come_in_their_order(photos):
    found = find([photos / "b.jpg", photos / "sub", photos / "a.jpg"])
    assert names(found) == ["b.jpg", "sub/.hidden.png", "a.jpg"]


def test_a_folder_is_walked_as_files_are_asked_for(tmp_path):
    for name in ("a", "b/inner", "c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.jpg").touch()
    found = find([tmp_path])
    first = [str(name) for _, name in islice(found, 2)]
    (tmp_path / "c" / "2.jpg").touch()
    base = tmp_path.name
    assert first == [f"{base}/a/1.jpg", f"{base}/b/inner/1.jpg"]
    assert names(found) == [f"{base}/c/1.jpg", f"{base}/c/2.jpg"]


def test_what_other_programs_keep_is_left_out(photos):
    for name in (".DS_Store", "x.part", "@eaDir/x.jpg", "sub/proxies/x.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).touch()
    expected = ["my photos/a.jpg", "my photos/b.jpg", "my photos/sub/.hidden.png"]
    assert names(find([photos], ["PROXIES"])) == expected


@pytest.mark.parametrize("name", ["x.part", ".Trash-1000", "mine"])
def test_a_path_that_the_inbox_leaves_alone_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "x.jpg").touch()
    with pytest.raises(InputError, match=rf"{name} has a name .* inbox leaves alone; rename it"):
        find([tmp_path / name], ["mine"])


def test_a_missing_path_is_named(photos):
    with pytest.raises(InputError, match=r"there is no file or folder .*nothing"):
        find([photos, photos / "nothing"])


def test_a_folder_without_files_is_named(tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(InputError, match=r"there are no files in .*empty"):
        find([tmp_path / "empty"])


def test_a_rate_is_kept(photos):
    files = list(find([photos / "a.jpg"])) * 11
    begin = time.monotonic()
    assert list(paced(files, 50)) == files
    assert 0.2 <= time.monotonic() - begin < 1


def test_a_late_taker_is_made_up_for(photos):
    files = list(find([photos / "a.jpg"])) * 4
    taken = paced(files, 10)
    next(taken)
    late = time.monotonic() + 0.5
    while time.monotonic() < late:
        pass
    begin = time.monotonic()
    assert list(taken) == files[1:]
    assert time.monotonic() - begin < 0.1


def test_without_a_rate_nothing_is_waited_for(photos):
    files = list(find([photos / "a.jpg"])) * 10_000
    begin = time.monotonic()
    assert list(paced(files, None)) == files
    assert time.monotonic() - begin < 1


def test_a_dropped_file_is_a_copy_with_its_folders(photos, settings, left):
    with dropping(settings.inbox, settings.staging) as drop:
        for file, name in find([photos]):
            drop(file, name)
    assert left() == {b"my photos/a.jpg", b"my photos/b.jpg", b"my photos/sub/.hidden.png"}
    assert (settings.inbox / "my photos/a.jpg").read_bytes() == b"a.jpg"
    assert (photos / "a.jpg").exists()


def test_nothing_stays_beside_the_inbox(photos, settings):
    with dropping(settings.inbox, settings.staging) as drop:
        drop(photos / "a.jpg", Path("a.jpg"))
    assert list(settings.staging.iterdir()) == []


def test_a_file_that_vanished_is_named_and_the_inbox_stays_clean(photos, settings, left):
    ((file, name),) = find([photos / "a.jpg"])
    file.unlink()
    with (
        dropping(settings.inbox, settings.staging) as drop,
        pytest.raises(InputError, match=r"a\.jpg cannot be copied"),
    ):
        drop(file, name)
    assert left() == set()


def test_an_inbox_that_is_not_mounted_is_named(settings, tmp_path):
    settings.root.mkdir(parents=True)
    settings.inbox.symlink_to(tmp_path / "nas")
    with pytest.raises(EnvironmentUnfitError, match=r"^the inbox .* link to .*/nas, .*: mount it$"):
        dropping(settings.inbox, settings.staging).__enter__()


def test_an_inbox_that_cannot_be_made_is_named(settings):
    settings.root.mkdir()
    settings.inbox.write_text("a file in its place")
    with pytest.raises(EnvironmentUnfitError, match="inbox cannot be written to: File exists"):
        dropping(settings.inbox, settings.staging).__enter__()


def test_what_holds_the_inbox_is_not_copied_into_it(tmp_path, photos):
    inbox = tmp_path / "data" / "inbox"
    inbox.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    require_apart([photos, photos / "a.jpg"], inbox)
    for path in (inbox, tmp_path, tmp_path / "link", Path("/")):
        with pytest.raises(InputError, match=f"^{path} holds the inbox .*; name a folder "):
            require_apart([photos, path], inbox)


def test_a_pipe_or_a_device_is_not_copied(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with dropping(tmp_path / "inbox", tmp_path / "staging") as drop:
        for path in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(InputError, match=f"^{path} is a pipe or a device, and no file$"):
                drop(path, Path(path.name))
    assert not [*(tmp_path / "inbox").iterdir()]
