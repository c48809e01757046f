"""intake: whatever is put into the inbox, however, becomes exactly one event when complete."""

import mmap
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.images.limits import Rejected
from sightstream.images.store import local_path
from sightstream.images.store import read as read_image
from sightstream.io import folder
from sightstream.io.folder import files
from streaming.folder import stuck
from streaming.folder.intake import MANIFEST_IMAGES
from streaming.folder.manifests import between, placed, published, read
from tests.intakes import intake_of

ROOT = os.geteuid() == 0
SETTLE = 0.3


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"settle_seconds": SETTLE})


@pytest.fixture
def intake(settings):
    return intake_of(settings)


@pytest.fixture
def drop(settings):
    """Puts a complete file into the inbox, as a program does that opens it under its name."""

    def write(name, content=b"bytes"):
        path = os.path.join(os.fsencode(settings.inbox), os.fsencode(name))  # noqa: PTH118
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(content)
        return Path(os.fsdecode(path))

    return write


def content(event):
    return Path(local_path(event.uri)).read_bytes()


def names(events):
    return [event.original_name for event in events]


def takes_nothing_while(intake, step, seconds=2 * SETTLE):
    """Looks again and again, with a step before each look, and expects that nothing is taken."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        step()
        assert intake.take() == 0


# What is complete, and when


def test_a_closed_file_is_taken_at_the_first_look(intake, drop, told, left):
    drop("x.jpg", b"picture")
    assert intake.take() == 1
    (event,) = told()
    assert (event.original_name, content(event)) == ("x.jpg", b"picture")
    assert not left()


def test_an_empty_inbox_makes_no_manifest(intake, settings):
    assert intake.take() == 0
    assert not published(settings.manifests)


def test_a_file_is_not_taken_while_a_process_writes_it(intake, settings, told, until):
    script = (
        "import sys; file = open(sys.argv[1], 'wb', 0); file.write(b'begin '); print('open', "
        "flush=True); sys.stdin.readline(); file.write(b'end')"
    )
    path = settings.inbox / "slow.jpg"
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"open\n"
        takes_nothing_while(intake, lambda: None)
        writer.communicate(b"\n", timeout=60)
    until(intake.take)
    (event,) = told()
    assert (content(event), event.bytes) == (b"begin end", 9)


def test_a_file_is_not_taken_while_its_content_grows(intake, settings, told):
    with (settings.inbox / "x.jpg").open("wb", buffering=0) as file:
        takes_nothing_while(intake, lambda: file.write(b"more"))
        size = file.tell()
    assert intake.take() == 1
    assert told()[0].bytes == size


def test_a_file_that_is_written_in_place_is_not_taken(intake, drop, told):
    with drop("x.jpg", b"old bytes").open("r+b") as file:
        file.write(b"new")
        file.flush()
        takes_nothing_while(intake, lambda: None)
    assert intake.take() == 1
    assert content(told()[0]) == b"new bytes"


def test_a_file_that_is_appended_to_is_not_taken(intake, drop, told):
    with drop("x.jpg", b"one").open("ab") as file:
        assert intake.take() == 0
        file.write(b" two")
    assert intake.take() == 1
    assert content(told()[0]) == b"one two"


def test_a_file_that_is_written_through_memory_is_not_taken(intake, drop, told):
    with drop("x.jpg", b"....").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 4)
    assert intake.take() == 0
    mapped[:] = b"done"
    mapped.close()
    assert intake.take() == 1
    assert content(told()[0]) == b"done"


def test_a_file_that_is_only_read_is_taken(intake, drop):
    with drop("x.jpg").open("rb"):
        assert intake.take() == 1


def test_a_second_writer_is_waited_for_too(intake, drop):
    path = drop("x.jpg")
    with path.open("ab"):
        with path.open("ab"):
            pass
        assert intake.take() == 0
    assert intake.take() == 1


def test_a_writer_that_opens_during_a_look_is_not_disturbed(intake, settings, told):
    stop, done = threading.Event(), []

    def rewrite():
        while not stop.is_set():
            with (settings.inbox / "x.jpg").open("wb") as file:
                file.write(b"head")
                file.write(b"tail")
            done.append(1)

    writer = threading.Thread(target=rewrite)
    writer.start()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        intake.take()
    stop.set()
    writer.join()
    intake.drain()
    assert done and told()
    assert {content(event) for event in told()} == {b"headtail"}
    assert len({event.event_id for event in told()}) == len(told())


def test_a_file_that_is_moved_in_is_taken(intake, settings, tmp_path, told):
    source = tmp_path / "outside.png"
    source.write_bytes(b"moved")
    source.rename(settings.inbox / "inside.png")
    assert intake.take() == 1
    assert (names(told()), content(told()[0])) == (["inside.png"], b"moved")


def test_a_folder_that_is_moved_in_is_taken_file_by_file(intake, settings, tmp_path, told):
    (tmp_path / "batch/deep").mkdir(parents=True)
    (tmp_path / "batch/1.jpg").write_bytes(b"1")
    (tmp_path / "batch/deep/2.jpg").write_bytes(b"2")
    (tmp_path / "batch").rename(settings.inbox / "batch")
    assert intake.take() == 2
    assert sorted(names(told())) == ["batch/1.jpg", "batch/deep/2.jpg"]


@pytest.mark.parametrize("year", [1980, 2099])
def test_the_date_that_a_copy_kept_neither_delays_nor_dates_it(intake, drop, told, year):
    kept = datetime(year, 1, 1, tzinfo=UTC).timestamp()
    os.utime(drop("x.jpg"), (kept, kept))
    assert intake.take() == 1
    assert abs(told()[0].event_time - time.time()) < 60


def test_a_copy_that_keeps_its_dates_is_taken(intake, settings, tmp_path, told):
    source = tmp_path / "old.jpg"
    source.write_bytes(b"old")
    os.utime(source, (0, 0))
    shutil.copy2(source, settings.inbox / "new.jpg")
    assert intake.take() == 1
    assert abs(told()[0].event_time - time.time()) < 60


def test_what_is_overwritten_before_it_is_taken_is_one_event(intake, drop, told):
    drop("x.jpg", b"first")
    drop("x.jpg", b"second")
    assert intake.drain() == 1
    assert [content(event) for event in told()] == [b"second"]


def test_what_is_overwritten_after_it_was_taken_is_a_second_event(intake, drop, told):
    drop("x.jpg", b"first")
    intake.take()
    drop("x.jpg", b"second")
    intake.take()
    first, second = told()
    assert first.original_name == second.original_name == "x.jpg"
    assert [content(first), content(second)] == [b"first", b"second"]
    assert first.event_id < second.event_id


# Files that settle


def test_an_empty_file_waits_to_settle_and_is_then_taken(intake, drop, told, until):
    begin = time.monotonic()
    drop("empty.jpg", b"")
    assert intake.take() == 0
    until(intake.take)
    assert time.monotonic() - begin >= SETTLE
    assert (names(told()), told()[0].bytes) == (["empty.jpg"], 0)


def test_an_empty_file_that_is_filled_is_taken_at_once(intake, drop, told):
    drop("x.jpg", b"")
    assert intake.take() == 0
    drop("x.jpg", b"filled")
    assert intake.take() == 1
    assert told()[0].bytes == 6


def test_an_empty_file_that_is_held_open_waits_for_its_writer(intake, settings):
    with (settings.inbox / "x.jpg").open("wb"):
        takes_nothing_while(intake, lambda: None)
        begin = time.monotonic()
        assert intake.drain() == 0
        assert time.monotonic() - begin < 10
        assert intake.left == {"x.jpg": folder.BUSY}
    assert intake.drain() == 1
    assert intake.left == {}


UNFINISHED = [
    ".x.jpg.part", ".x.jpg.Ab12Cd", "x.jpg.PART", "x.jpg.crdownload", "x.jpg.filepart",
    "x.jpg.partial", ".in.x.jpg.", ".~tmp~/x.jpg", ".rsync-partial/x.jpg", "._copying_/x.jpg",
    ".syncthing.x.jpg.tmp", ".x.jpg.~1a2b3c", ".pending-1689-x.jpg",
]  # fmt: skip
DOUBTFUL = [".x.jpg", "x.jpg.tmp", "x.jpg~", "x.jpg.6eF5b5da"]


@pytest.mark.parametrize("name", [*UNFINISHED, *DOUBTFUL])
def test_a_temporary_name_rests_and_is_taken_once_under_its_final_name(
    intake, settings, drop, told, name
):
    path = drop(name, b"picture")
    assert intake.take() == 0
    path.rename(settings.inbox / "x.jpg")
    assert intake.take() == 1
    assert intake.drain() == 0
    assert (names(told()), content(told()[0])) == (["x.jpg"], b"picture")


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_doubtful_name_that_nobody_changes_is_taken_in_the_end(intake, drop, told, name):
    begin = time.monotonic()
    drop(name)
    assert intake.drain() == 1
    assert time.monotonic() - begin >= SETTLE
    assert names(told()) == [name]


def test_a_doubtful_file_rests_as_long_as_it_changes(intake, drop):
    path = drop(".x.jpg")

    def append():
        with path.open("ab") as file:
            file.write(b"more")

    takes_nothing_while(intake, append, seconds=3 * SETTLE)
    assert intake.drain() == 1


def test_a_doubtful_file_holds_up_no_other(intake, drop, told):
    drop(".a.jpg")
    drop("b.jpg")
    assert intake.take() == 1
    assert names(told()) == ["b.jpg"]


# Writers that close a file after each part of it


@pytest.fixture
def patient(settings):
    return settings.model_copy(update={"settle_closed": True})


def test_a_file_that_is_closed_after_each_part_is_taken_once_and_whole(patient, settings, told):
    intake, path, parts = intake_of(patient), settings.inbox / "x.jpg", []

    def append():
        parts.append(b"part %d, " % len(parts))
        with path.open("ab") as file:
            file.write(parts[-1])

    takes_nothing_while(intake, append, seconds=3 * SETTLE)
    assert intake.drain() == 1
    (event,) = told()
    assert content(event) == b"".join(parts)


def test_a_part_that_is_written_over_another_makes_a_file_rest_anew(patient, drop, told):
    intake = intake_of(patient)
    takes_nothing_while(intake, lambda: drop("x.jpg", b"%20d" % time.monotonic_ns()))
    final = drop("x.jpg", b"whole").read_bytes()
    assert intake.drain() == 1
    assert [content(event) for event in told()] == [final]


def test_every_file_rests_where_closed_ones_do(patient, settings, tmp_path, drop, told, until):
    intake, begin = intake_of(patient), time.monotonic()
    (tmp_path / "moved.jpg").write_bytes(b"moved")
    (tmp_path / "moved.jpg").rename(settings.inbox / "moved.jpg")
    drop("closed.jpg")
    assert intake.take() == 0
    until(lambda: intake.take() or len(told()) == 2)
    assert time.monotonic() - begin >= SETTLE
    assert sorted(names(told())) == ["closed.jpg", "moved.jpg"]


# What other programs keep


OTHERS = [
    *UNFINISHED, "@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg", ".Trash-1000/files/deleted.png",
    ".stversions/x~20261127-101010.png", ".stfolder/x", ".Trashes/501/x.png", "#recycle/x.jpg",
    "@Recycle/x.jpg", "@tmp/x.jpg", ".DS_Store", "cam/.DS_Store", "._x.jpg", ".AppleDouble/x.jpg",
    "Thumbs.db", "THUMBS.DB", "desktop.ini", "$RECYCLE.BIN/S-1-5/$R1.jpg", "lost+found/#12",
    "System Volume Information/x", ".owncloudsync.log", ".sync_0a1b.db-wal", ".sync/Archive/x.jpg",
    ".nfs000000000012", ".fuse_hidden0001", "__MACOSX/._x.jpg", "Icon\r", "x.jpg.nextcloud",
]  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_other_programs_keep_is_left_alone(intake, drop, told, left, name):
    drop(name)
    drop("a.jpg")
    assert intake.drain() == 1
    assert names(told()) == ["a.jpg"]
    assert left() == {os.fsencode(name)}


def test_a_setting_names_further_files_and_folders_that_are_left_alone(settings, drop, told):
    wanted = settings.model_copy(update={"ignore": ("*.thumb", "Proxy?", "[Originals]")})
    for name in ("x.THUMB", "proxy1/x.jpg", "cam/proxy2/a/x.jpg", "proxy.jpg", "O"):
        drop(name)
    assert intake_of(wanted).drain() == 1
    assert names(told()) == ["proxy.jpg"]


RSYNC = [
    ["-a", "--delay-updates"], ["-a"], ["-a", "--partial-dir=.rsync-partial"], ["-r", "--inplace"],
    ["-a", "--temp-dir=."],
]  # fmt: skip


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed")
@pytest.mark.parametrize("options", RSYNC, ids=" ".join)
def test_rsync_into_a_watched_inbox_ends_well_and_each_file_is_taken_once(
    settings, tmp_path, told, until, options
):
    (tmp_path / "from/cam").mkdir(parents=True)
    pictures = {f"cam/{n}.png": b"%d" % n * 9000 for n in range(30)} | {".hidden.png": b"h" * 9000}
    for name, picture in pictures.items():
        (tmp_path / "from" / name).write_bytes(picture)
    stop = threading.Event()
    thread = threading.Thread(target=intake_of(settings).run, args=(stop,))
    thread.start()
    done = subprocess.run(
        ["rsync", *options, "--bwlimit=200", f"{tmp_path}/from/", f"{settings.inbox}/"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    until(lambda: len(told()) >= len(pictures))
    stop.set()
    thread.join(timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert {event.original_name: content(event) for event in told()} == pictures
    assert len(told()) == len(pictures)


# Names


NAMES = [
    "with space.jpg", " leading.jpg", "a:b.jpg", "{x}.jpg", "{{{", "100%.jpg", "%20.jpg", "%s%d",
    "line\nbreak.jpg", "end.jpg\n", "cr\rtab\t.jpg", ".dotted.jpg", "_under.jpg", "-dash.jpg", "*?",
    'quo"te.jpg', "back\\slash.jpg", "日本語.jpg", "🐈.png", "e\u0301.jpg", "sep\u2028\x85.jpg",
    "nosuffix", "n" * 251 + ".jpg", "é" * 127 + "x", "#frag?query.jpg", "...", "CON", "pending",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_taken_and_kept(intake, drop, told, left, name):
    drop(name, b"picture")
    assert intake.drain() == 1
    (event,) = told()
    assert (event.original_name, content(event)) == (name, b"picture")
    assert not left()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_may_be_that_of_a_folder(intake, drop, told, name):
    drop(f"{name}/x.jpg", b"picture")
    assert intake.drain() == 1
    assert names(told()) == [f"{name}/x.jpg"]


def test_bytes_that_are_no_utf_8_are_shown_in_the_name(intake, drop, told, left):
    drop(b"caf\xe9.jpg", b"picture")
    assert intake.take() == 1
    assert (names(told()), content(told()[0])) == (["caf\\xe9.jpg"], b"picture")
    assert not left()


def test_a_name_of_255_bytes_that_are_no_utf_8_is_taken(intake, drop, told):
    drop(b"\xff" * 255)
    assert intake.take() == 1
    assert names(told()) == ["\\xff" * 255]


def test_the_original_name_is_the_path_below_the_inbox(intake, drop, told):
    for name in ("a.jpg", "one/a.jpg", "one/two/a.jpg"):
        drop(name)
    assert intake.take() == 3
    assert sorted(names(told())) == ["a.jpg", "one/a.jpg", "one/two/a.jpg"]


def test_a_home_of_any_name_works(tmp_path, settings):
    home = tmp_path / os.fsdecode(b"ho me %20 \xff #?")
    strange = settings.model_copy(update={"home": home})
    intake = intake_of(strange)
    (strange.inbox / "x.jpg").write_bytes(b"picture")
    assert intake.take() == 1
    (image,) = strange.images.glob("*/*/*")
    (uri,) = placed(read(between(strange.manifests, {})), strange.images)["uri"].to_pylist()
    assert local_path(uri) == str(image)


# What is no file


def goes_away_as_unreadable(intake, told, left, name):
    assert intake.take() == 1
    (event,) = told()
    assert (event.original_name, event.error_code) == (name, "unreadable")
    assert event.error_detail
    assert not left()
    rejected = read_image(local_path(event.uri))
    assert isinstance(rejected, Rejected) and rejected.code == "unreadable"


def test_a_symlink_to_a_file_goes_away_and_its_target_stays(intake, settings, tmp_path, told, left):
    target = tmp_path / "secret.jpg"
    target.write_bytes(b"secret")
    (settings.inbox / "link.jpg").symlink_to(target)
    goes_away_as_unreadable(intake, told, left, "link.jpg")
    assert target.read_bytes() == b"secret"


def test_a_symlink_to_a_folder_goes_away_and_the_folder_stays(
    intake, settings, tmp_path, told, left
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x.jpg").write_bytes(b"secret")
    (settings.inbox / "link").symlink_to(tmp_path / "folder")
    goes_away_as_unreadable(intake, told, left, "link")
    assert (tmp_path / "folder/x.jpg").read_bytes() == b"secret"


@pytest.mark.parametrize("target", ["nowhere", "loop", ".", ".."])
def test_a_symlink_to_nothing_or_to_itself_goes_away(intake, settings, told, left, target):
    (settings.inbox / "loop").symlink_to(target)
    goes_away_as_unreadable(intake, told, left, "loop")


def test_a_named_pipe_goes_away_and_nobody_waits(intake, settings, told, left):
    os.mkfifo(settings.inbox / "pipe.jpg")
    goes_away_as_unreadable(intake, told, left, "pipe.jpg")


def test_a_socket_goes_away(intake, settings, told, left, monkeypatch):
    monkeypatch.chdir(settings.inbox)  # the path of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        listener.listen()
        goes_away_as_unreadable(intake, told, left, "socket.jpg")


@pytest.mark.skipif(not ROOT, reason="only root makes devices")
def test_a_device_goes_away(intake, settings, told, left):
    os.mknod(settings.inbox / "device.jpg", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    goes_away_as_unreadable(intake, told, left, "device.jpg")


def test_an_image_carries_no_error(intake, drop, told):
    drop("x.jpg")
    intake.take()
    assert (told()[0].error_code, told()[0].error_detail) == (None, None)


def test_folders_are_left_where_they_are(intake, settings, drop):
    (settings.inbox / "empty").mkdir()
    drop("used/x.jpg")
    assert intake.take() == 1
    assert (settings.inbox / "empty").is_dir()


# Folders without files


@pytest.fixture
def emptied(intake, drop, until):
    """A folder that held a file, and that the intake no longer lists."""
    folder = drop("deep/folder/x.jpg").parent
    intake.take()
    listed = os.fsencode(folder)
    until(lambda: intake.take() == 0 and listed in intake._arrivals._bare)
    return folder


def test_a_folder_without_files_is_not_listed_at_every_look(intake, emptied, monkeypatch):
    listed = []
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or iter(()))
    intake._arrivals._listed = time.monotonic()
    for _ in range(10):
        intake.take()
    assert listed == []


def test_what_comes_into_a_folder_that_was_emptied_is_seen_at_the_next_look(intake, drop, emptied):
    drop("deep/folder/y.jpg")
    assert intake.take() == 1


def test_a_folder_that_comes_into_one_that_was_emptied_is_seen(intake, drop, emptied):
    drop("deep/folder/new/y.jpg")
    assert intake.take() == 1


def test_what_comes_without_a_trace_in_its_folders_time_is_seen_within_a_second(
    intake, drop, emptied, told, until
):
    before = emptied.stat()
    drop("deep/folder/y.jpg")
    os.utime(emptied, ns=(before.st_atime_ns, before.st_mtime_ns))
    until(intake.take)
    assert names(told()) == ["deep/folder/x.jpg", "deep/folder/y.jpg"]


def test_a_folder_that_was_emptied_may_be_deleted(intake, drop, emptied, told):
    emptied.rmdir()
    assert intake.take() == 0
    drop("deep/folder/y.jpg")
    assert intake.take() == 1


# What goes away, or cannot be taken


def test_a_file_that_is_deleted_before_it_is_moved_leaves_no_line(intake, drop, told, settings):
    path, other = drop("gone.jpg"), drop("here.jpg")
    chunk = [(os.fsencode(p), p.lstat(), 1.5) for p in (path, other)]
    path.unlink()
    assert intake._move(chunk) == 1
    assert names(told()) == ["here.jpg"]
    assert os.listdir(settings.manifests) == published(settings.manifests)  # noqa: PTH208


def test_a_folder_that_has_become_a_link_leads_to_no_files_elsewhere(intake, drop, told, tmp_path):
    path, other = drop("a/sub/x.jpg"), drop("a/here.jpg")
    chunk = [(os.fsencode(p), p.lstat(), 1.5) for p in (path, other)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.jpg").write_bytes(b"private")
    path.parent.rename(tmp_path / "aside")
    path.parent.symlink_to(elsewhere)
    assert intake._move(chunk) == 1
    assert names(told()) == ["a/here.jpg"]
    assert (elsewhere / "x.jpg").read_bytes() == b"private"


def test_a_chunk_of_deleted_files_makes_no_manifest(intake, drop, settings):
    path = drop("gone.jpg")
    chunk = [(os.fsencode(path), path.lstat(), 1.5)]
    path.unlink()
    assert intake._move(chunk) == 0
    assert not os.listdir(settings.manifests)  # noqa: PTH208


def test_a_file_that_is_deleted_before_it_is_judged_breaks_nothing(intake, drop, told, monkeypatch):
    path = drop("gone.jpg")

    def listed(*folders):
        for entry in files(*folders):
            path.unlink(missing_ok=True)
            yield entry

    monkeypatch.setattr(folder, "files", listed)
    drop("here.jpg")
    assert intake.drain() == 1
    assert names(told()) == ["here.jpg"]
    assert not path.exists()


def test_files_may_be_deleted_at_any_moment(intake, drop, told, left):
    stop = threading.Event()

    def drop_and_delete():
        while not stop.is_set():
            paths = [drop(f"folder/{n}.jpg", b"picture") for n in range(40)]
            for path in paths[::2]:
                path.unlink(missing_ok=True)
            shutil.rmtree(paths[0].parent, ignore_errors=True)

    user = threading.Thread(target=drop_and_delete)
    user.start()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        intake.take()
    stop.set()
    user.join()
    intake.drain()
    events = told()
    assert events
    assert all(content(event) == b"picture" for event in events)
    assert len({event.uri for event in events}) == len(events)
    assert not left()


@contextmanager
def immovable(*paths):
    """Makes files that even root cannot move."""
    fix = ["chattr", "+i", *paths]
    if not shutil.which("chattr") or subprocess.run(fix, capture_output=True).returncode:
        pytest.skip("chattr +i needs root and a file system that has it, such as ext4")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *paths], check=True)


@contextmanager
def other_file_system(folder):
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_file_that_cannot_be_moved_stays_and_the_others_go_on(intake, drop, told, left):
    stays = drop("b.jpg")
    with immovable(stays):
        drop("a.jpg")
        drop("c.jpg")
        assert intake.take() == 2
        assert sorted(names(told())) == ["a.jpg", "c.jpg"]
        assert left() == {b"b.jpg"}


def test_a_file_that_cannot_be_moved_is_not_tried_at_every_look(intake, drop, settings):
    with immovable(drop("stays.jpg")):
        begin = time.monotonic()
        assert intake.drain() == 0
        assert intake.take() == 0
        assert time.monotonic() - begin < 5
        assert not published(settings.manifests)


def test_a_file_that_could_not_be_moved_is_taken_once_it_can(settings, intake, drop, told):
    with immovable(drop("x.jpg")):
        assert intake.take() == 0
    assert intake_of(settings).take() == 1  # the same one tries again after RETRY seconds
    assert names(told()) == ["x.jpg"]


def test_another_file_under_the_name_of_one_that_could_not_be_moved_is_taken(intake, drop, told):
    with immovable(stays := drop("x.jpg")):
        assert intake.take() == 0
    stays.unlink()
    assert intake.take() == 0
    drop("x.jpg")
    assert intake.take() == 1
    assert names(told()) == ["x.jpg"]


def test_a_file_on_another_file_system_is_taken_with_the_others(intake, settings, drop, told, left):
    (settings.inbox / "mounted").mkdir()
    with other_file_system(settings.inbox / "mounted"):
        drop("mounted/copied.jpg")
        drop("renamed.jpg")
        assert intake.take() == 2
        assert sorted(names(told())) == ["mounted/copied.jpg", "renamed.jpg"]
        assert left() == set()


TAKE = """
import logging, sys
from sightstream import config
from tests.intakes import intake_of
print(intake_of(config.load(home=sys.argv[1], settle_seconds=0.3)).drain())
"""


def drained_without_privileges(settings):
    """Takes what a process can take for which permissions count, even when we are root."""
    plain = []
    if ROOT:
        if not shutil.which("setpriv"):
            pytest.skip("root, whom permissions do not stop, and no setpriv to change that")
        plain = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    child = subprocess.run(
        [*plain, sys.executable, "-c", TAKE, settings.home],
        env={"PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    return int(child.stdout)


@pytest.fixture
def mode():
    """Changes permissions, and gives them back so that the folder can be removed."""
    changed = []

    def change(path, bits):
        changed.append(path)
        path.chmod(bits)

    yield change
    for path in changed:
        path.chmod(0o700)


@pytest.mark.parametrize("bits", [0o000, 0o300, 0o400, 0o600], ids=oct)
def test_a_folder_that_cannot_be_looked_into_holds_up_no_other(settings, drop, told, mode, bits):
    drop("closed/x.jpg")
    drop("open/x.jpg")
    mode(settings.inbox / "closed", bits)
    assert drained_without_privileges(settings) == 1
    assert names(told()) == ["open/x.jpg"]
    ((path, why),) = stuck.read(settings.stuck).named.items()
    assert path.startswith("closed") and why.endswith("Permission denied")


def test_a_file_in_a_folder_that_cannot_be_written_stays(settings, drop, told, mode):
    drop("fixed/x.jpg")
    drop("open/x.jpg")
    mode(settings.inbox / "fixed", 0o500)
    assert drained_without_privileges(settings) == 1
    assert names(told()) == ["open/x.jpg"]
    assert stuck.read(settings.stuck).named == {"fixed/x.jpg": "cannot be moved: Permission denied"}


def test_a_file_that_cannot_be_read_stays_until_it_can(settings, drop, told, left, mode):
    drop("a.jpg")
    mode(drop("x.jpg"), 0o000)
    assert drained_without_privileges(settings) == 1
    assert (names(told()), left()) == (["a.jpg"], {b"x.jpg"})
    assert stuck.read(settings.stuck).named == {"x.jpg": "cannot be read: Permission denied"}
    (settings.inbox / "x.jpg").chmod(0o600)
    assert drained_without_privileges(settings) == 1
    assert (names(told()), left()) == (["a.jpg", "x.jpg"], set())
    assert stuck.read(settings.stuck) == stuck.Stuck()
    drop("x.jpg")  # for `mode`, which gives back its permissions


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_private_file_of_somebody_else_stays(settings, drop, told, left):
    drop("a.jpg")
    path = drop("x.jpg")
    path.chmod(0o600)
    os.chown(path, 65534, 65534)
    assert drained_without_privileges(settings) == 1
    assert (names(told()), left()) == (["a.jpg"], {b"x.jpg"})
    assert stuck.read(settings.stuck).named == {"x.jpg": "cannot be read: Permission denied"}


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_file_of_somebody_else_in_a_sticky_folder_stays(settings, drop, told, left):
    own, path = drop("shared/own.jpg"), drop("shared/x.jpg")
    for each in (own.parent, path):
        os.chown(each, 65534, 65534)
    own.parent.chmod(0o1777)
    assert drained_without_privileges(settings) == 1
    assert (names(told()), left()) == (["shared/own.jpg"], {b"shared/x.jpg"})
    why = "cannot be moved: Operation not permitted"
    assert stuck.read(settings.stuck).named == {"shared/x.jpg": why}


def test_what_is_stuck_is_told_and_no_longer_when_it_is_gone(intake, drop, settings):
    for n in range(stuck.NAMED + 5):
        drop(f"{n:02d}.jpg")
    files = [settings.inbox / f"{n:02d}.jpg" for n in range(stuck.NAMED + 5)]
    with immovable(*files):
        assert intake.take() == 0
        found = stuck.read(settings.stuck)
        assert found.count == stuck.NAMED + 5
        assert list(found.named) == [f"{n:02d}.jpg" for n in range(stuck.NAMED)]
        assert [*intake.left] == [f"{n:02d}.jpg" for n in range(stuck.NAMED + 5)]
    for path in files:
        path.unlink()
    intake.take()
    assert stuck.read(settings.stuck).count == 0


def test_what_was_stuck_and_could_be_moved_is_told_no_longer(intake, drop, settings, monkeypatch):
    monkeypatch.setattr(folder, "RETRY", 0.2)
    with immovable(drop("x.jpg")):
        assert intake.take() == 0
        assert stuck.read(settings.stuck).count == 1
    time.sleep(0.3)
    assert intake.take() == 1
    assert stuck.read(settings.stuck).count == 0


def test_an_inbox_that_is_not_mounted_is_one_sentence(settings, tmp_path):
    settings.root.mkdir()
    settings.inbox.symlink_to(tmp_path / "nas")
    with pytest.raises(EnvironmentUnfitError, match=r"^the inbox .* link to .*/nas, .*: mount it$"):
        intake_of(settings)
    settings.inbox.unlink()
    settings.inbox.touch()
    with pytest.raises(EnvironmentUnfitError, match=r"^the inbox .* is not a folder; move"):
        intake_of(settings)


def test_an_inbox_that_vanishes_is_told_until_it_is_back(settings, drop, told, tmp_path, caplog):
    settings.root.mkdir()
    (tmp_path / "nas").mkdir()
    settings.inbox.symlink_to(tmp_path / "nas")
    intake = intake_of(settings)
    drop("a.jpg")
    (tmp_path / "nas").rename(tmp_path / "away")
    assert intake.take() == intake.take() == 0
    why = f"is a link to {tmp_path}/nas, which is not there: mount it"
    named = {str(settings.inbox): why}
    assert intake.left == named
    assert stuck.read(settings.stuck) == stuck.Stuck(1, named)
    assert str(stuck.now(settings.stuck, settings.inbox)) == f"the inbox {settings.inbox} {why}"
    assert caplog.text.count(why) == 1
    (tmp_path / "away").rename(tmp_path / "nas")
    assert (intake.take(), names(told()), intake.left) == (1, ["a.jpg"], {})
    assert stuck.now(settings.stuck, settings.inbox) == stuck.Stuck()


def test_an_inbox_that_is_deleted_is_told(intake, settings):
    settings.inbox.rmdir()
    assert intake.take() == 0
    assert str(stuck.read(settings.stuck)) == (
        f"the inbox {settings.inbox} cannot be looked into: No such file or directory"
    )


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_file_of_somebody_else_settles_and_is_taken(settings, drop, told):
    os.chown(drop("x.jpg"), 65534, 65534)
    assert drained_without_privileges(settings) == 1
    assert names(told()) == ["x.jpg"]


@contextmanager
def deep(folder, name, levels):
    """Makes folders below folders, deeper than one path may be long; yields the deepest."""
    here = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(levels):
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", folder / name], check=True)


def test_a_path_that_is_too_long_holds_up_no_other(intake, settings, drop, told):
    room = 4096 - len(os.fsencode(settings.inbox)) - 1
    with deep(settings.inbox, "d" * 199, levels=room // 200) as deepest:
        os.close(os.open("n" * 250, os.O_CREAT | os.O_WRONLY, dir_fd=deepest))
        drop("x.jpg")
        assert intake.take() == 1
        assert names(told()) == ["x.jpg"]


def test_folders_nested_a_thousand_deep_hold_up_no_other(intake, settings, drop, told):
    with deep(settings.inbox, "d", levels=1200):
        drop("x.jpg")
        assert intake.take() == 1
        assert names(told()) == ["x.jpg"]


# Manifests


def test_twenty_thousand_files_become_as_many_events(settings, told, left):
    told_of = []
    intake = intake_of(settings, on_arrival=told_of.append)
    for n in range(20_000):
        (settings.inbox / f"{n}.jpg").write_bytes(b"%d" % n)
    assert intake.take() == 20_000
    events = told()
    assert {event.original_name for event in events} == {f"{n}.jpg" for n in range(20_000)}
    assert len(events) == len({event.event_id for event in events}) == 20_000
    sizes = [len(read([settings.manifests / name])) for name in published(settings.manifests)]
    assert sizes == told_of
    assert max(sizes) <= MANIFEST_IMAGES == 1000
    assert not left()
    assert sum(1 for _ in settings.images.glob("*/*/*")) == 20_000
    assert all(content(event) + b".jpg" == event.original_name.encode() for event in events[::97])


def test_an_event_points_at_the_image_below_its_date_and_ten_minutes(intake, settings, drop, told):
    drop("a/x.jpg", b"picture")
    intake.take()
    (event,) = told()
    came = datetime.fromtimestamp(event.event_time, UTC)
    folder = settings.images / f"{came:%Y-%m-%d}" / f"{came:%H}{came.minute // 10}0"
    assert local_path(event.uri) == str(folder / f"{event.event_id}.jpg")
    assert (content(event), event.bytes, event.source) == (b"picture", 7, "folder")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("X.JPG", ".jpg"),
        ("x.JpEg", ".jpeg"),
        ("x.tar.GZ", ".gz"),
        ("x", ""),
        ("x.", ""),
        ("x.toolongsuffix", ""),
        ("x.j p", ""),
        ("x.日本", ""),
        ("x.y/z", ""),
    ],
)
def test_an_image_keeps_its_suffix_in_lower_case(intake, drop, told, name, suffix):
    drop(name)
    assert intake.drain() == 1
    (event,) = told()
    assert event.uri.endswith(f"/{event.event_id}{suffix}")


def test_the_manifests_folder_holds_nothing_but_manifests(intake, settings, drop):
    for n in range(3):
        drop(f"{n}.jpg")
        intake.take()
    names_there = sorted(path.name for path in settings.manifests.iterdir())
    assert names_there == published(settings.manifests)
    assert all(re.fullmatch(r"\d{20}\.arrow", name) for name in names_there)


def test_names_rise_with_each_manifest(intake, settings, drop):
    newest = []
    for n in range(50):
        drop(f"{n}.jpg")
        intake.take()
        newest.append(max(published(settings.manifests)))
    assert newest == sorted(set(newest))


def test_names_rise_even_when_the_clock_was_set_back(settings, intake, drop):
    future = f"{time.time_ns() + 10**18:020d}.arrow"
    (settings.manifests / future).write_text("")
    seen = [future]
    for n in range(3):
        drop(f"{n}.jpg")
        intake.take()
        (new,) = published(settings.manifests, after=seen[-1])
        seen.append(new)
    assert published(settings.manifests) == seen


def test_published_leaves_out_what_came_before(settings, intake, drop):
    drop("a.jpg")
    intake.take()
    (first,) = published(settings.manifests)
    assert published(settings.manifests, after=first) == []


def test_a_foreign_file_among_the_manifests_stops_nothing(settings, intake, drop):
    (settings.manifests / "notes.arrow").write_text("")
    drop("x.jpg")
    assert intake.take() == 1


def test_run_takes_what_arrives_until_it_is_told_to_stop(settings, drop, told, until):
    stop = threading.Event()
    thread = threading.Thread(target=intake_of(settings).run, args=(stop,))
    thread.start()
    for n in range(5):
        drop(f"{n}.jpg")
        until(lambda expected=n + 1: len(told()) == expected)
    stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_run_goes_on_after_the_inbox_was_away(settings, drop, told, until):
    stop = threading.Event()
    thread = threading.Thread(target=intake_of(settings).run, args=(stop,))
    thread.start()
    settings.inbox.rmdir()
    drop("x.jpg")
    until(lambda: names(told()) == ["x.jpg"])
    stop.set()
    thread.join(timeout=60)


def test_a_look_that_was_held_up_does_not_hold_up_the_next(
    settings, drop, told, until, monkeypatch
):
    looked, scandir = threading.Event(), os.scandir

    def held_up(path):
        if not looked.is_set():
            time.sleep(3)  # as when a file server is away, or the machine suspended
        looked.set()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", held_up)
    stop = threading.Event()
    thread = threading.Thread(target=intake_of(settings).run, args=(stop,))
    thread.start()
    looked.wait(60)
    time.sleep(0.1)
    drop("x.jpg")
    until(lambda: names(told()) == ["x.jpg"], 3 * folder.LONGEST_PAUSE)
    stop.set()
    thread.join(timeout=60)
