"""intake: wherever it dies, or runs out of disk, each file gets exactly one event in the end."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from sightstream import config
from sightstream.images.event import new_event_id
from sightstream.images.store import local_path
from streaming.folder import intake
from streaming.folder.manifests import pending, published
from tests.intakes import intake_of

SHM = Path("/dev/shm")
NAMES = [b"a.jpg", b"b c.JPG", b"line\nbreak.jpg", b"caf\xe9.jpg", b"sub/d.png", b"100%.jpg"]

DYING = """
import json, os, signal, sys
from pathlib import Path
from sightstream import config
from sightstream.io import disk
from streaming.folder import intake
from tests.intakes import intake_of

for line in sys.stdin:
    # To import it all for each death would take nearly all of the tests' time.
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
signal.alarm(60)
home, where, count = json.loads(line)
settings = config.load(home=home, settle_seconds=0)
calls = 0

def die(*_):
    os._exit(9)

def die_at_call(count):
    global calls
    calls += 1
    if calls > count:
        die()

def before(function):
    def replaced(*args, **keywords):
        die_at_call(count)
        return function(*args, **keywords)
    return replaced

def after(function):
    def replaced(*args, **keywords):
        answer = function(*args, **keywords)
        die_at_call(count)
        return answer
    return replaced

def cut_short(path, events, write=intake.write):
    # The file's first `count` bytes reach the disk; `where` says which file.
    write(path, events)
    if path.name.startswith(where.removeprefix("cut ")):
        os.truncate(path, count if count >= 0 else path.stat().st_size + count)
        die()

def first_vanishes(self, path, event, rename=intake.Intake._rename, gone=[]):
    if not gone:
        gone.append(path)
        os.unlink(path)
    return rename(self, path, event)

def die_at_step(event, args):
    # Each call that touches a file below home is announced to audit hooks before it is made.
    if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir"}:
        named = [os.fsdecode(each) for each in args[:2] if isinstance(each, (str, bytes))]
        # Of open, other numbers are flags.
        in_folder = event != "open" and any(isinstance(n, int) and n >= 0 for n in args)
        if in_folder or any(each.startswith(home) for each in named):
            die_at_call(count)

if where.startswith("vanish "):
    where = where.removeprefix("vanish ")
    intake.Intake._rename = first_vanishes
if where == "before rename":
    intake.Intake._rename = before(intake.Intake._rename)
elif where == "after rename":
    intake.Intake._rename = after(intake.Intake._rename)
elif where == "before write":
    intake.write = before(intake.write)
elif where == "after write":
    intake.write = after(intake.write)
elif where == "before replace":
    Path.replace = before(Path.replace)
elif where == "after replace":
    Path.replace = after(Path.replace)
elif where == "before publish":
    Path.rename = before(Path.rename)
elif where == "after publish":
    Path.rename = after(Path.rename)
elif where == "before sync":
    disk.sync = before(disk.sync)
elif where == "after sync":
    disk.sync = after(disk.sync)
elif where.startswith("cut "):
    intake.write = cut_short
elif where == "any step":
    sys.addaudithook(die_at_step)
elif where == "arrival":
    pass
else:
    sys.exit(f"no such place: {where}")
intake_of(settings, on_arrival=die if where == "arrival" else int).take()
"""

RUNNING = """
import sys, threading
from sightstream import config
from tests.intakes import intake_of
intake = intake_of(config.load(home=sys.argv[1], settle_seconds=0))
print("runs", flush=True)
intake.run(threading.Event())
"""


@pytest.fixture
def settings(settings):
    """Empty files and temporary names do not matter here, so nothing has to settle."""
    made = settings.model_copy(update={"settle_seconds": 0.0})
    made.inbox.mkdir(parents=True)
    return made


def child(script, *arguments):
    return [sys.executable, "-c", script, *map(str, arguments)]


def environment():
    return {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}


@pytest.fixture(scope="module", autouse=True)
def dying():
    """A process that has imported the intake, and forks one for each death."""
    global dies_in
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(child(DYING), env=environment(), cwd="/", **pipes) as dies_in:
        yield
        dies_in.stdin.close()


def dies(settings, where, count=0):
    """Runs one `take` in a process that ends at a step, and says whether it got that far."""
    print(json.dumps([str(settings.home), where, count]), file=dies_in.stdin, flush=True)
    ended = int(dies_in.stdout.readline())
    assert ended in {0, 9}
    return ended == 9


def drop(settings, names=NAMES):
    """Puts files into the inbox whose content is their name."""
    for name in names:
        path = settings.inbox / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name)


def shown(names):
    return sorted(name.decode("utf-8", "backslashreplace") for name in names)


def ends_well(settings, told, left, names=NAMES):
    """What must be so after the next start, whatever happened before."""
    intake_of(settings).drain()
    events = told()
    assert sorted(event.original_name for event in events) == shown(names)
    assert len({event.event_id for event in events}) == len(names)
    assert not left()
    images = {local_path(event.uri): event.original_name for event in events}
    assert all(shown([Path(p).read_bytes()]) == [name] for p, name in images.items())
    assert set(images) == {str(path) for path in settings.images.glob("*/*/*")}
    assert {path.name for path in settings.manifests.iterdir()} - {"pending.rewritten"} == set(
        published(settings.manifests)
    )


def test_a_crash_at_any_step_of_a_look_costs_no_file_and_no_line(settings, told, left):
    step = 0
    while True:
        shutil.rmtree(settings.root)
        settings.inbox.mkdir(parents=True)
        drop(settings)
        died = dies(settings, "any step", step)
        ends_well(settings, told, left)
        if not died:
            break
        step += 1
    assert step > 2 * len(NAMES)


@pytest.fixture
def apart(settings):
    """Puts an empty inbox on another file system; a link stands in for a mount."""
    if not SHM.is_dir() or SHM.stat().st_dev == settings.inbox.stat().st_dev:
        pytest.skip(f"{SHM} is no other file system here")
    with tempfile.TemporaryDirectory(dir=SHM) as folder:

        def put():
            shutil.rmtree(settings.root)
            settings.root.mkdir(parents=True)
            shutil.rmtree(folder)
            Path(folder).mkdir()
            settings.inbox.symlink_to(folder)

        yield put


def test_a_crash_at_any_step_costs_nothing_where_the_inbox_is_on_another_file_system(
    settings, told, left, apart
):
    step, names = 0, [b"caf\xe9.jpg", b"sub/d.png"]
    while True:
        apart()
        drop(settings, names)
        died = dies(settings, "any step", step)
        dies(settings, "any step", 3 * step % 11)  # and the recovery at some step
        ends_well(settings, told, left, names)
        if not died:
            break
        step += 1
    assert step > 4 * len(names)


def test_a_crash_at_any_step_of_the_recovery_costs_no_file_and_no_line(
    settings, told, left, tmp_path
):
    drop(settings)
    assert dies(settings, "after rename", 2)
    crashed = settings.root.rename(tmp_path / "crashed")
    step = 0
    while True:
        shutil.rmtree(settings.root, ignore_errors=True)
        shutil.copytree(crashed, settings.root)
        died = dies(settings, "any step", step)
        ends_well(settings, told, left)
        if not died:
            break
        step += 1
    assert step > 6


def ends_well_without_the_list(settings, told, left, names, keep=-9):
    """As `ends_well`, for files of a list that was damaged: some have lost their names."""
    listed = pending(settings.manifests)
    for path in listed:
        path.write_bytes(path.read_bytes()[:keep])
    settings.manifests.mkdir(exist_ok=True)
    before = {event.event_id for event in told()}
    moved = [path for path in settings.images.glob("*/*/*") if path.stem not in before]
    intake_of(settings).drain()
    images = {local_path(event.uri): event for event in told()}
    assert sorted(Path(path).read_bytes() for path in images) == sorted(names)
    assert set(images) == {str(path) for path in settings.images.glob("*/*/*")}
    assert {Path(path).stem for path in images} == {e.event_id for e in told()}
    assert all(Path(path).stat().st_size == event.bytes for path, event in images.items())
    new = [event for event in told() if event.event_id not in before]
    assert all(abs(event.event_time - time.time()) < 60 for event in new)
    assert not left()
    assert not pending(settings.manifests)
    return bool(listed and moved)


@pytest.mark.parametrize("folder", ["settings", "apart"])
def test_images_whose_list_is_damaged_after_a_crash_get_their_events(
    settings, told, left, folder, request, caplog
):
    """At any step, also where the inbox is on another file system."""
    put = request.getfixturevalue(folder) if folder == "apart" else None
    step, lists, names = 0, 0, [b"caf\xe9.jpg", b"plain"]
    while True:
        if put:
            put()
        else:
            shutil.rmtree(settings.root)
            settings.inbox.mkdir(parents=True)
        if step % 2:
            drop(settings, [b"earlier.jpg"])
            intake_of(settings).drain()
        drop(settings, names)
        died = dies(settings, "any step", step)
        caplog.clear()
        every = [*names, b"earlier.jpg"] if step % 2 else names
        if ends_well_without_the_list(settings, told, left, every):
            lists += 1
            kept = settings.manifests / "pending.damaged"
            assert kept.exists()
            assert f"it is kept as {kept}" in caplog.text
        if not died:
            break
        step += 1
    assert lists > 1


@pytest.mark.parametrize("shift", [timedelta(days=366), -timedelta(days=366), timedelta(seconds=2)])
@pytest.mark.parametrize("keep", [0, -9])
def test_a_damaged_list_is_known_by_its_name_whatever_the_clock_did(
    settings, told, left, shift, keep, monkeypatch
):
    """Images that were taken while the clock was wrong have ids ahead of others, or behind."""
    real, names = time.time, [b"%d.jpg" % n for n in range(3)]
    with monkeypatch.context() as at:
        at.setattr(intake.time, "time", lambda: real() + shift.total_seconds())
        drop(settings, names)
        intake_of(settings).drain()
    drop(settings, NAMES)
    assert dies(settings, "after rename", 2)
    assert ends_well_without_the_list(settings, told, left, [*names, *NAMES], keep)


def test_a_list_waits_for_the_disk_of_its_images(settings, told, left, tmp_path, caplog):
    drop(settings)
    assert dies(settings, "before publish")
    away = settings.images.rename(tmp_path / "away")
    intake_of(settings).drain()
    assert "if its disk is not mounted, mount it, and start again" in caplog.text
    assert not told()
    settings.images.rmdir()
    away.rename(settings.images)
    ends_well(settings, told, left)


def test_a_copy_of_a_list_makes_no_second_event(settings, told, left):
    drop(settings)
    assert dies(settings, "before publish")
    (path,) = pending(settings.manifests)
    shutil.copy(path, path.with_name(f"pending-{new_event_id(time.time() + 5)}"))
    ends_well(settings, told, left)


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("before write", 0),
        ("cut pending", 0),
        ("cut pending", 1),
        ("cut pending", 150),
        ("cut pending", 700),
        ("cut pending", -1),
        ("after write", 0),
        *(("before rename", count) for count in range(len(NAMES))),
        *(("after rename", count) for count in range(len(NAMES))),
        ("before publish", 0),
        ("after publish", 0),
        ("before sync", 0),
        ("after sync", 0),
        ("arrival", 0),
    ],
)
def test_a_crash_costs_no_file_and_no_line(settings, told, left, where, count):
    drop(settings)
    assert dies(settings, where, count)
    ends_well(settings, told, left)


@pytest.mark.parametrize("zeros", [slice(0, None), slice(0, 512), slice(512, -512)])
def test_zeros_in_the_list_after_a_power_cut_cost_nothing(settings, told, left, zeros):
    drop(settings)
    assert dies(settings, "after write")
    (path,) = pending(settings.manifests)
    content = bytearray(path.read_bytes())
    content[zeros] = bytes(len(content[zeros]))
    path.write_bytes(content)
    ends_well(settings, told, left)


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("before write", 1),
        ("cut pending.rewritten", 0),
        ("cut pending.rewritten", 150),
        ("after write", 1),
        ("before replace", 0),
        ("after replace", 0),
        ("before publish", 0),
        ("after publish", 0),
    ],
)
def test_a_crash_after_a_file_vanished_costs_no_other(settings, told, left, where, count):
    drop(settings)
    assert dies(settings, f"vanish {where}", count)
    survivors = {event.original_name for event in told()}
    intake_of(settings).drain()
    names = {event.original_name for event in told()}
    assert survivors <= names
    (vanished,) = set(shown(NAMES)) - names
    ends_well(settings, told, left, [n for n in NAMES if shown([n]) != [vanished]])


def test_crash_upon_crash_upon_crash_costs_nothing(settings, told, left):
    drop(settings)
    for where, count in [
        ("after rename", 1),
        ("before publish", 0),
        ("after rename", 0),
        ("cut pending.rewritten", 40),
        ("before replace", 0),
        ("after replace", 0),
        ("after publish", 0),
    ]:
        assert dies(settings, where, count), where
    ends_well(settings, told, left)


def test_a_file_of_the_same_name_that_arrives_after_a_crash_is_another_event(settings, told):
    drop(settings, [b"x.jpg"])
    assert dies(settings, "after rename")
    drop(settings, [b"x.jpg"])
    intake_of(settings).drain()
    assert [event.original_name for event in told()] == ["x.jpg", "x.jpg"]


@pytest.mark.parametrize(
    "name", ["sep\u2028x.jpg", "par\u2029x.jpg", "next\x85x.jpg"], ids=["2028", "2029", "85"]
)
@pytest.mark.parametrize("where", ["after rename", "before publish"])
def test_a_crash_costs_no_file_whose_name_holds_a_line_separator(settings, told, left, name, where):
    names = [name.encode(), b"a.jpg", b"b.jpg"]
    drop(settings, names)
    assert dies(settings, where, 2 if where == "after rename" else 0)
    ends_well(settings, told, left, names)


def test_a_symlink_whose_target_is_gone_survives_a_crash(settings, told, left):
    (settings.inbox / "link.jpg").symlink_to("nowhere")
    assert dies(settings, "after rename")
    intake_of(settings).drain()
    assert [(e.original_name, e.error_code) for e in told()] == [("link.jpg", "unreadable")]
    assert not left()


def test_killed_again_and_again_it_loses_nothing_and_tells_nothing_twice(settings, told, left):
    chance, kills, total = random.Random(7), 15, 2000
    names = [b"%04d/%d.jpg" % (n // 100, n) for n in range(total)]
    killed_amid = 0
    for round in range(kills):
        with subprocess.Popen(
            child(RUNNING, settings.home), env=environment(), stdout=subprocess.PIPE
        ) as running:
            assert running.stdout.readline() == b"runs\n"
            deadline = time.monotonic() + chance.uniform(0.01, 0.15)
            for name in names[round * total // kills : (round + 1) * total // kills]:
                drop(settings, [name])
            while time.monotonic() < deadline:
                pass
            running.send_signal(signal.SIGKILL)
            running.wait(timeout=60)
        killed_amid += bool(left()) or bool(pending(settings.manifests))
    ends_well(settings, told, left, names)
    assert killed_amid, "no kill came while there was something to do"


# A full disk


@contextmanager
def mounted(folder, options):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def runs(settings):
    """Runs the intake, and expects that it is still alive at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=intake_of(settings).run, args=(stop,))
    thread.start()
    try:
        yield
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(timeout=60)


@pytest.fixture
def small(tmp_path):
    """A home on a small file system."""

    @contextmanager
    def mount(options):
        home = tmp_path / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        with mounted(home, options):
            made = config.load(home=home, settle_seconds=0)
            made.inbox.mkdir()
            yield made

    return mount


def fill(path):
    """Writes until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_full_disk_is_waited_for_and_the_inbox_keeps_its_files(small, told, left, until, caplog):
    names = [b"%d.jpg" % n for n in range(50)]
    with small("size=1m") as settings:
        intake_of(settings)
        ballast = settings.home / "ballast"
        drop(settings, names)
        fill(ballast)
        with runs(settings):
            until(lambda: "the intake waits" in caplog.text)
            assert left() == set(names)
            assert not told()
            ballast.unlink()
            until(lambda: len(told()) == len(names))
        ends_well(settings, told, left, names)


def test_it_goes_on_within_seconds_once_there_is_room(small, told, until, caplog):
    with small("size=1m") as settings:
        intake_of(settings)
        drop(settings, [b"x.jpg"])
        ballast = settings.home / "ballast"
        fill(ballast)
        with runs(settings):
            until(lambda: "the intake waits" in caplog.text)
            ballast.unlink()
            until(told, seconds=5)


def test_a_disk_that_fills_during_the_recovery_is_waited_for(small, told, left, until, caplog):
    with small("size=1m") as settings:
        intake = intake_of(settings)
        drop(settings)
        assert dies(settings, "after rename", 2)
        ballast = settings.home / "ballast"
        fill(ballast)
        stop = threading.Event()
        thread = threading.Thread(target=intake.run, args=(stop,))
        thread.start()
        until(lambda: "the intake waits" in caplog.text)
        ballast.unlink()
        until(lambda: len(told()) == len(NAMES))
        stop.set()
        thread.join(timeout=60)
        ends_well(settings, told, left)


def test_a_disk_without_room_for_another_folder_is_waited_for(small, told, left, until, caplog):
    with small("size=1m,nr_inodes=40") as settings:
        intake_of(settings)
        drop(settings, [b"a.jpg", b"b.jpg"])
        ballast = []
        while os.statvfs(settings.home).f_ffree > 1:
            ballast.append(settings.home / f"ballast{len(ballast)}")
            ballast[-1].touch()
        # There is room for the list of what will be moved, but not for the day's folder.
        with runs(settings):
            until(lambda: "the intake waits" in caplog.text)
            assert left() == {b"a.jpg", b"b.jpg"}
            for path in ballast:
                path.unlink()
            until(lambda: len(told()) == 2)
        ends_well(settings, told, left, [b"a.jpg", b"b.jpg"])


def test_killed_on_a_full_disk_it_still_costs_nothing(small, told, left):
    names = [b"%d.jpg" % n for n in range(50)]
    with small("size=1m") as settings:
        intake_of(settings)
        drop(settings, names)
        assert dies(settings, "after rename", 20)
        ballast = settings.home / "ballast"
        fill(ballast)
        with subprocess.Popen(
            child(RUNNING, settings.home), env=environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running:  # fmt: skip
            running.send_signal(signal.SIGKILL)
        ballast.unlink()
        ends_well(settings, told, left, names)
        assert Counter(event.original_name for event in told()).most_common(1)[0][1] == 1


def test_a_start_on_a_full_disk_waits_rather_than_fails(small, told, left, until):
    with small("size=1m") as settings:
        intake_of(settings)
        drop(settings)
        assert dies(settings, "after rename", 2)
        ballast = settings.home / "ballast"
        fill(ballast)
        with runs(settings):
            ballast.unlink()
            until(lambda: len(told()) == len(NAMES))
        ends_well(settings, told, left)
