"""Parts of tests.chaos: what explains an end of the stream, what a reader must not see, errors."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos import preload, supervisor
from tests.chaos.kafka import unread
from tests.chaos.ledger import Ledger
from tests.chaos.observer import Observer, unlike
from tests.chaos.registry import ordered
from tests.chaos.supervisor import Supervised

STREAM = """
import sys, time
from pathlib import Path
folder, starts = Path(sys.argv[1]), Path("starts")
number = int(starts.read_text()) if starts.exists() else 0
starts.write_text(str(number + 1))
if number in {ready}:
    print("Ctrl-C ends it", file=sys.stderr, flush=True)
while not (folder / f"end-{{number}}").exists():
    time.sleep(0.02)
print({said!r}, file=sys.stderr)
sys.exit(int((folder / f"end-{{number}}").read_text()))
"""
"""Says in some of its starts that it is ready, and ends with a code when it is told to."""


@pytest.fixture
def supervised(tmp_path, monkeypatch):
    """Starts such a program in a stream's place; yields it, its ledger and what ends a start."""
    monkeypatch.setattr(supervisor, "PAUSE", 0.0)
    monkeypatch.setattr(supervisor, "LOOK", 0.02)
    started = []

    def make(ready=(), said="no"):
        ledger = Ledger(tmp_path / "ledger")
        (tmp_path / "said").mkdir()
        command = ["-c", STREAM.format(ready=set(ready) or "()", said=said), str(tmp_path)]
        stream = Supervised(command, os.environ, tmp_path / "said", ledger)
        started.append(stream)
        stream.start()

        def end(number, code):
            made = tmp_path / f"end-{number}.new"
            made.write_text(str(code))
            made.rename(tmp_path / f"end-{number}")

        return stream, ledger, end

    yield make
    for each in started:
        each.end(0)


def ends(ledger):
    return [(e["code"], e["explained"]) for e in ledger.entries() if e["kind"] == "ended"]


def ready(ledger):
    return sum(each["kind"] == "ready" for each in ledger.entries())


def test_an_exit_code_is_explained_until_the_stream_is_ready_again(supervised, until):
    stream, ledger, end = supervised(ready=[0, 3])
    until(lambda: ready(ledger) == 1)
    with stream.explained((6,)):
        end(0, 6)
        until(lambda: ends(ledger) == [(6, True)])
        end(1, 3)
        until(lambda: ends(ledger)[1:] == [(3, False)])
    end(2, 6)
    until(lambda: ends(ledger)[2:] == [(6, True)])
    until(lambda: ready(ledger) == 2 and not stream.explains(6))
    end(3, 6)
    until(lambda: ends(ledger)[3:] == [(6, False)])


def test_a_loss_is_told_again_until_a_micro_batch_was_committed_after_it(supervised, until):
    said = "messages are lost (offsets 1 to 2); to go on: SIGHTSTREAM_X=false sightstream run"
    stream, ledger, end = supervised(ready=[1], said=said)
    with stream.explained((8,)):
        end(0, 8)
        until(lambda: ends(ledger) == [(8, True)])
    until(lambda: ready(ledger) == 1 and not stream.explains(8))
    end(1, 8)
    until(lambda: ends(ledger)[1:] == [(8, True)])


def test_a_stream_that_stays_ready_may_end_for_a_fault_for_a_while(supervised, until, monkeypatch):
    stream, ledger, end = supervised(ready=[0])
    until(lambda: ready(ledger) == 1)
    with stream.explained((1,)):
        pass
    assert stream.explains(1)
    monkeypatch.setattr(supervisor, "GRACE", 0.1)
    until(lambda: not stream.explains(1))
    end(0, 1)
    until(lambda: ends(ledger) == [(1, False)])


def test_a_signal_is_explained_where_a_fault_sent_it(supervised, until):
    stream, ledger, _ = supervised(ready=[0, 1, 2])
    until(lambda: ready(ledger) == 1)
    os.kill(stream.process.pid, signal.SIGKILL)
    until(lambda: ends(ledger) == [(-9, False)] and ready(ledger) == 2)
    stream.killed.add(stream.process.pid)
    os.kill(stream.process.pid, signal.SIGKILL)
    until(lambda: ends(ledger)[1:] == [(-9, True)] and ready(ledger) == 3)
    stream.kill()
    until(lambda: ends(ledger)[2:] == [(-9, True)])


def test_a_traceback_is_wrong_also_when_it_is_asked_to_end(supervised, until):
    stream, ledger, end = supervised(ready=[0], said="Traceback (most recent call last):")
    until(lambda: ready(ledger) == 1)
    stream._ended.set()
    end(0, 0)
    stream.join(30)
    assert [each["kind"] for each in ledger.entries()][-1] == "wrong"


def test_what_no_version_of_a_table_may_show_is_told():
    assert list(unlike({"a": 1}, {"a": 1, "b": 1})) == []
    assert list(unlike({"a": 1, "b": 1, "c": 1}, {"c": 1})) == [
        "in which a has no row any more, and 1 more"
    ]
    assert list(unlike({"a": 1}, {"a": 2, "b": 1})) == ["in which a has several rows"]
    assert list(unlike({"a": 2}, {"a": 2})) == []  # it was told


def test_the_observer_tells_of_a_double_that_is_gone_later_and_of_errors(tmp_path, until):
    import pyarrow as pa
    from deltalake import write_deltalake

    def write(*names):
        rows = [{"event_id": n, "original_name": n, "source": "folder"} for n in names]
        write_deltalake(str(tmp_path / "table"), pa.Table.from_pylist(rows), mode="overwrite")

    told = []
    observer = Observer(str(tmp_path / "table"), told.append)
    observer.start()
    try:
        for names in (["a", "b"], ["a", "b", "b"], ["a", "b"], ["b"], ["a", "b"]):
            version = observer._version
            write(*names)
            until(lambda before=version: observer._version > before)
        assert [each.partition("which ")[2] for each in told] == [
            "b has several rows", "a has no row any more"
        ]  # fmt: skip
        (tmp_path / "table").rename(tmp_path / "away")
        until(lambda: told[2:])
        assert "cannot be read" in told[2]
    finally:
        observer.stopping.set()
        observer.join(30)


@pytest.mark.skipif(bool(preload.missing()), reason=preload.missing())
def test_operations_that_fail_or_wait_are_counted(tmp_path):
    made = preload.Preload(tmp_path / "preload")
    code = "import sys; open(sys.argv[1]).read()"

    def read(name):
        file = tmp_path / name
        file.write_text("it")
        done = subprocess.run(
            [sys.executable, "-c", code, file], env=os.environ | made.environment,
            capture_output=True, text=True,
        )  # fmt: skip
        return done.stderr.strip().rpartition("\n")[2]

    made.fail(preload.READS, "/bad")
    assert read("good") == ""
    assert made.hits() == 0
    assert read("bad") == "OSError: [Errno 5] Input/output error"
    assert made.hits() == 1
    made.fail(preload.READS, "/bad", errno.EDQUOT)
    assert read("bad") == "OSError: [Errno 122] Disk quota exceeded"
    made.delay(preload.READS, "/bad", 0.3)
    begin = time.monotonic()
    assert read("bad") == ""
    assert time.monotonic() - begin > 0.3
    hits = made.hits()
    assert hits >= 3
    made.rest()
    assert read("bad") == ""
    assert made.hits() == hits


def test_only_a_message_that_is_gone_everywhere_and_was_not_read_is_excused():
    arrived = {
        "read": [(0, 4)], "unread": [(0, 5), (1, 9)], "read once": [(0, 4), (0, 6)],
        "kept": [(2, 0)], "also kept": [(0, 7), (2, 1)], "after": [(1, 10)], "last": [(0, 7)],
    }  # fmt: skip
    assert unread(arrived, {"0": 5, "1": 0}, {0: 8, 1: 10}) == ["unread", "last"]


def test_each_copy_has_a_label_of_its_own_for_each_image():
    first = [*"0123456789"]
    orders = [ordered(first, version) for version in range(1, 10)]
    assert orders[0] == first
    assert all(len(set(labels)) == 9 for labels in zip(*orders, strict=True))


def test_a_deliberate_bug_that_is_not_found_is_no_success(monkeypatch, capsys):
    monkeypatch.setattr(chaos, "_right", lambda *_: True)
    monkeypatch.setattr(sys, "argv", ["chaos", "--bug", "fsync"])
    assert chaos.main() == chaos.MISSED
    assert "the bug fsync was not found" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["chaos"])
    assert chaos.main() == 0
