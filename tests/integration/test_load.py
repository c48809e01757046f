"""sightstream load against a real stream and a real broker: the report is what the table says."""

import json
import threading
import time
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from sightstream.images.event import new_event_id
from sightstream.tables.predictions import Predictions
from sightstream.tables.query import query
from sightstream.tables.schema import ROW
from tests.topics import Program


@pytest.fixture(scope="module")
def home(broker, new_home):
    made = new_home()
    (made.settings.root / "sightstream.toml").write_text(f'kafka_servers = "{broker.address}"\n')
    return made


@pytest.fixture
def load(home, starter):
    digits = starter.home / "starter" / "digits"
    return lambda *more: home("load", "--images", digits, "--json", *more)


def test_what_went_to_the_inbox_and_to_the_topic_is_found_in_the_table(home, load, starter):
    one = starter.digits[0]
    assert home("publish", one, "--topic", "images", "--create-topic").returncode == 0
    with home.running("--source", "folder", "--source", "kafka"):
        for target in ("inbox", "kafka"):
            done = load(
                "--target", target, "--rate", 40, "--duration", "4s", "--mix", "good=3,bad=1"
            )  # fmt: skip
            told = json.loads(done.stdout)
            assert done.returncode == 0, (told, done.stderr)
            assert told["sent"] == told["answered"] == told["ok"] + told["rejected"] == 160
            assert (told["lost"], told["doubled"], told["unsent"]) == (0, 0, 0)
            assert 4 - 1 / 40 <= told["seconds"] < 6
            latency = told["latency"]
            assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
            assert rejected(home, {"inbox": "folder"}.get(target, target)) == {
                "empty", "truncated", "unsupported_format", "too_large",
            }  # fmt: skip
            assert 20 <= told["rejected"] <= 60


def rejected(home, source):
    sql = f"SELECT DISTINCT error_code FROM dead_letters WHERE source = '{source}'"
    return set(query(home.settings.predictions, sql)["error_code"].to_pylist())


def test_before_there_is_a_table_it_says_what_to_do(broker, starter, tmp_path):
    digits = starter.home / "starter" / "digits"
    done = Program(broker, tmp_path, "load", "--home", tmp_path / "new", "--images", digits).ended()
    assert done.code == 2
    assert "start the stream with: sightstream run" in done.err


@pytest.fixture
def quiet(broker, starter, tmp_path):
    """Runs `load` on a home whose table takes what the test writes, and nothing else."""
    root = tmp_path / "quiet"
    table = Predictions(str(root / "predictions"))
    table.last_batch("")
    digits = starter.home / "starter" / "digits"

    def run():
        return Program(
            broker, tmp_path, "load", "--home", root, "--images", digits, "--rate", 20,
            "--duration", "1s", "--mix", "good=1", "--timeout", 2, "--json",
        ).ended()  # fmt: skip

    run.root, run.table = root, table
    return run


def test_without_a_stream_all_are_lost(quiet):
    done = quiet()
    told = json.loads(done.out)
    assert (done.code, told["sent"], told["lost"], told["answered"]) == (1, 20, 20, 0)
    assert told["latency"] == {}


def test_a_second_row_of_an_image_is_told(quiet):
    stop, seen = threading.Event(), set()

    def answer():
        while not stop.wait(0.02):
            inbox = quiet.root / "inbox"
            names = {str(p.relative_to(inbox)) for p in inbox.rglob("*.png")} - seen
            if names:
                # The first image of all gets two rows.
                commit(quiet.table, [*names, *([] if seen else [min(names)])], len(seen))
            seen.update(names)

    answering = threading.Thread(target=answer)
    answering.start()
    done = quiet()
    stop.set()
    answering.join()
    told = json.loads(done.out)
    assert done.code == 1
    assert (told["sent"], told["answered"], told["lost"], told["doubled"]) == (20, 20, 0, 1)
    assert 0 <= told["latency"]["p50"] < 2


def commit(table, names, batch_id):
    now = datetime.now(UTC)
    rows = [
        {
            "event_id": new_event_id(time.time()), "source": "folder", "original_name": name,
            "status": "ok", "processed_at": now, "event_time": now, "date": now.date(),
        }
        for name in names
    ]  # fmt: skip
    table.append(pa.Table.from_pylist(rows, ROW), "test", batch_id)
