"""sightstream watch against a real broker: each file once, whatever ends the program."""

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest

from producers.topic import Destination
from producers.watch import Watch
from sightstream.config import Acceptance, Broker
from sightstream.images.event import new_event_id
from sightstream.images.store import local_path
from tests.topics import Program, headers, messages

SEED = 20251124


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "dropped"
    made.mkdir()
    return made


@pytest.fixture
def watching(broker, folder, topic):
    """Starts the program on the folder; nothing is left of it in the end."""
    programs = []

    def start(*arguments, **more):
        command = ("watch", folder, "--topic", topic, "--create-topic", *arguments)
        settled = {"SIGHTSTREAM_SETTLE_SECONDS": "0.5"}
        programs.append(Program(broker, folder.parent, *command, **settled | more))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.process.communicate(timeout=60)


def files(folder):
    """What is below a folder, whatever moves meanwhile."""
    return {
        os.fsencode(Path(place, name).relative_to(folder)): Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
    }


def kept(folder):
    """The published files by event id."""
    return {each.name: files(each) for each in (folder / "published").iterdir()}


def unanswered(folder):
    return list((folder / ".publishing").glob("*-*"))


def waiting(folder):
    return [name for name in files(folder) if not name.startswith((b"published/", b".publishing/"))]


NAMES = [b"a.jpg", b"sub/b c.PNG", b"caf\xe9.jpg", b"line\nbreak.jpg", b"[red]x[/red].jpg", b"-x"]


def drop(folder, names=NAMES):
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image " + name)


def test_files_are_published_and_then_kept_under_their_event_ids(
    watching, broker, folder, topic, until
):
    drop(folder)
    program = watching("--json")
    until(lambda: (folder / "published").is_dir() and len(kept(folder)) == 6)
    drop(folder, [b"a.jpg"])  # the same name again is another event
    (folder / "empty.jpg").touch()
    until(lambda: len(kept(folder)) == 8)
    done = program.ended(signal.SIGINT)
    assert (done.code, '"published": 8' in done.out) == (0, True), done.err
    found = {headers(message)["ce_id"]: message for message in messages(broker, topic)}
    assert found.keys() == kept(folder).keys()
    for event_id, inside in kept(folder).items():
        ((name, path),) = inside.items()
        assert found[event_id].value == path.read_bytes()
        told = headers(found[event_id])
        assert told["ce_subject"] == name.decode("utf-8", "backslashreplace")
        assert told["ce_source"] == "watch"
        assert UUID(event_id).int >> 80 == found[event_id].timestamp
    assert not waiting(folder)
    assert not unanswered(folder)


def test_with_remove_nothing_stays(watching, broker, folder, topic, until):
    drop(folder)
    program = watching("--remove")
    until(lambda: not waiting(folder) and not unanswered(folder))
    assert program.ended(signal.SIGTERM).code == 0
    assert not (folder / "published").exists()
    assert len(messages(broker, topic)) == 6


def test_a_file_that_is_still_written_is_left_alone(watching, broker, folder, topic, until):
    program = watching()
    with (folder / "slow.jpg").open("wb", buffering=0) as slow:
        slow.write(b"first half, ")
        drop(folder)
        until(lambda: waiting(folder) == [b"slow.jpg"])
        slow.write(b"second half")
    until(lambda: not waiting(folder))
    assert program.ended(signal.SIGINT).code == 0
    assert b"first half, second half" in {message.value for message in messages(broker, topic)}


def test_what_is_no_file_stays_and_is_told(watching, broker, folder, topic, until):
    (folder / "link.jpg").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe.jpg")
    drop(folder)
    program = watching()
    until(lambda: (folder / "published").is_dir() and len(kept(folder)) == 6)
    done = program.ended(signal.SIGINT)
    assert done.code == 0
    for name in ("link.jpg", "pipe.jpg"):
        assert f"{folder / name} stays where it is: it is a link, a pipe" in done.err
    assert (folder / "link.jpg").is_symlink()
    assert len(messages(broker, topic)) == 6


def test_what_other_programs_keep_stays_and_is_not_sent(watching, broker, folder, topic, until):
    others = {b".DS_Store", b"@eaDir/a.jpg", b"b.jpg.part", b"sub/proxy.jpg"}
    drop(folder, [*NAMES, *others])
    program = watching(SIGHTSTREAM_IGNORE="proxy.*")
    until(lambda: (folder / "published").is_dir() and len(kept(folder)) == 6)
    assert program.ended(signal.SIGINT).code == 0
    assert set(waiting(folder)) == others
    assert len(messages(broker, topic)) == 6


SMALL = {"SIGHTSTREAM_MAX_IMAGE_BYTES": "100000"}


@pytest.mark.parametrize("flags", [(), ("--remove",)])
def test_a_large_image_is_kept_where_its_claim_check_says(
    watching, broker, folder, topic, until, flags
):
    content = random.Random(SEED).randbytes(400_000)
    (folder / "large ü.tif").write_bytes(content)
    program = watching(*flags, **SMALL, SIGHTSTREAM_KAFKA_URI_PREFIXES=folder.as_uri())
    until(lambda: list((folder / "published").glob("*/*")))
    until(lambda: not unanswered(folder))
    assert program.ended(signal.SIGINT).code == 0
    (message,) = messages(broker, topic)
    (path,) = (folder / "published").glob("*/*")
    assert local_path(headers(message)["uri"]) == str(path)
    assert path.read_bytes() == content
    assert path.parent.name == headers(message)["ce_id"]


def test_a_large_image_without_an_allowed_prefix_waits_for_a_start_that_has_one(
    watching, broker, folder, topic, until
):
    (folder / "large.tif").write_bytes(bytes(400_000))
    program = watching(**SMALL)
    until(lambda: list((folder / ".publishing").glob("*/large.tif")))
    done = program.ended(signal.SIGINT)
    assert "kafka_uri_prefixes" in done.err
    assert "tried again at the next start" in done.err
    assert not messages(broker, topic)
    watching(**SMALL, SIGHTSTREAM_KAFKA_URI_PREFIXES=folder.as_uri())
    until(lambda: not unanswered(folder))
    assert len(messages(broker, topic)) == 1


def test_a_second_watch_on_one_folder_is_refused(watching, folder, until):
    drop(folder)
    watching()
    until(lambda: (folder / "published").is_dir())
    second = watching().ended()
    assert second.code == 4
    assert f"another process watches {folder} already" in second.err


def test_killed_at_seeded_moments_it_loses_no_file_and_each_keeps_its_id(
    watching, broker, folder, topic, until
):
    dice = random.Random(SEED)
    count, written = 1500, threading.Event()

    def drops():
        for number in range(count):
            path = folder / f"{number % 7}" / f"{number:05d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"%05d" % number * 2000)
            threading.Event().wait(0.005)
        written.set()

    dropping = threading.Thread(target=drops)
    dropping.start()
    for _ in range(5):
        program = watching()
        threading.Event().wait(dice.uniform(0.6, 2.0))
        program.process.kill()
    assert written.wait(60)
    dropping.join()
    program = watching()
    until(lambda: not waiting(folder) and not unanswered(folder), 60)
    assert program.ended(signal.SIGINT).code == 0
    names = {}
    for message in messages(broker, topic):
        told = headers(message)
        names.setdefault(told["ce_id"], set()).add(told["ce_subject"])
        assert message.value == told["ce_subject"][2:7].encode() * 2000
    assert all(len(each) == 1 for each in names.values())
    assert Counter(name for each in names.values() for name in each) == Counter(
        f"{number % 7}/{number:05d}.jpg" for number in range(count)
    )
    assert kept(folder).keys() == names.keys()


def test_a_broker_that_stays_away_ends_it_and_the_next_start_goes_on(
    watching, broker, folder, topic, until
):
    drop(folder)
    done = watching("--timeout", 2, SIGHTSTREAM_KAFKA_SERVERS="127.0.0.1:9").ended()
    assert done.code == 7
    assert len(waiting(folder)) == 6
    watching()
    until(lambda: not waiting(folder))
    until(lambda: len(messages(broker, topic)) == 6)


def test_folders_of_others_beside_what_is_on_its_way_are_left_alone(folder):
    place = folder / ".publishing"
    ours = place / new_event_id(1.8e9) / "a.jpg"
    for each in (ours, place / "@eaDir" / "b.jpg", place / "notes" / "c.jpg"):
        each.parent.mkdir(parents=True)
        each.touch()
    (place / "empty").mkdir()
    assert [*unconnected(folder)._left()] == [ours]
    assert {each.name for each in place.iterdir()} == {ours.parent.name, "@eaDir", "notes", "empty"}


def test_links_among_what_is_on_its_way_are_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    place = folder / ".publishing"
    link = place / new_event_id(1.8e9) / "b.jpg"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (place / new_event_id(1.8e9)).symlink_to(tmp_path / "elsewhere")
    told = []
    watch = unconnected(folder, told.append)
    for each in watch._left():
        watch._send(None, None, each)
    assert told == [f"{link} stays where it is: it is a link, and no file"]
    assert link.is_symlink()


def unconnected(folder, notify=print):
    to = Destination(Broker("broker:9092"), "images")
    return Watch(folder, to, (), Acceptance(0.0), keep=True, notify=notify)
