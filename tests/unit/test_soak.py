"""The soak's pure parts: its timetable, its verdict, and what it says of a table."""

import json
import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from tests.soak import check, verdict
from tests.soak.around import faults_of_reader
from tests.soak.timetable import LONGEST, timetable

HOURS = 7200.0
FAULTS = {"kill": (0.0, 0.0), "stop": (5.0, 35.0), "full": (4.0, 20.0)}


def test_a_fault_comes_each_minute_and_each_quarter_is_like_the_first():
    planned = timetable(7, HOURS, FAULTS, {"promote": 300, "refresh": 1200})
    assert planned == timetable(7, HOURS, FAULTS, {"promote": 300, "refresh": 1200})
    faults = [each for each in planned if each.name in FAULTS]
    assert [each.second for each in faults] == [60 * minute + 20 for minute in range(120)]
    assert max(each.seconds for each in faults) <= LONGEST
    assert {each.name for each in faults[:3]} == set(FAULTS)
    quarters = [[(e.number, e.second - 1800 * q, e.name, e.seconds)
                 for e in planned if 1800 * q <= e.second < 1800 * (q + 1)]
                for q in range(4)]  # fmt: skip
    assert quarters[0] == quarters[1] == quarters[2] == quarters[3]
    counts = {name: sum(each.name == name for each in planned) for name in ("promote", "refresh")}
    assert counts == {"promote": 24, "refresh": 8}


def samples(memory):
    used = {"open files": 20.0, "threads": 7.0}
    return [
        {"second": float(second), "parts": {"driver": used | {"memory": memory(second)}}}
        for second in range(5, 400, 5)
    ]


@pytest.mark.parametrize(
    ("memory", "flat"),
    [
        (lambda second: 100.0, True),
        (lambda second: 100.0 + (second % 20), True),
        (lambda second: 200.0 if second < 100 else 100.0, True),
        (lambda second: 100.0 + second * 0.02, False),
        (lambda second: 100.0 if second < 390 else 900.0, True),
        (lambda second: 100.0 if second < 310 else 104.0, False),
    ],
)
def test_memory_is_flat_where_the_last_quarters_median_is_that_of_the_second(memory, flat):
    lines = {each.kind: each for each in verdict.of_samples(samples(memory))}
    assert lines["memory"].is_flat(400) == flat
    assert lines["threads"].is_flat(400)
    assert lines["open files"].is_flat(400)


def test_a_quarter_without_a_sample_is_not_flat():
    (line, *_) = verdict.of_samples(samples(lambda second: 100.0)[:40])
    assert math.isnan(line.rise(400))
    assert not line.is_flat(400)


def test_latencies_are_quantiles_of_the_images_of_each_minute():
    arrived = np.repeat(np.arange(240.0), 10)
    seconds = np.where(arrived < 180, 0.1, 0.2)
    shuffled = np.random.default_rng(1).permutation(len(arrived))
    lines = verdict.of_latencies(arrived[shuffled], seconds[shuffled], 60)
    assert [each.points for each in lines] == [[(0, 0.1), (60, 0.1), (120, 0.1), (180, 0.2)]] * 3
    assert [each.is_flat(240) for each in lines] == [False] * 3
    assert not any(each.is_flat(240) for each in verdict.of_latencies(arrived[:0], seconds[:0], 60))


IMAGES = [("0", "", 300), ("1", "", 301), ("", "truncated", 280), ("3", "", 303)]


@pytest.fixture
def sent(tmp_path):
    file = tmp_path / "sent.jsonl"
    bursts = [{"at": 100.0, "first": 0, "images": IMAGES[:3]},
              {"at": 200.0, "first": 3, "images": IMAGES[3:]}]  # fmt: skip
    file.write_text("".join(json.dumps(each) + "\n" for each in bursts))
    return file


def table(*, numbers=(3, 0, 2, 1), **other):
    rows = []
    for number in numbers:
        label, code, size = IMAGES[number]
        at = datetime.fromtimestamp(100.5 + 100 * (number == 3), UTC)
        rows.append({
            "event_id": str(number), "original_name": f"soak-{number:010d}.png",
            "source": "folder", "status": "rejected" if code else "ok", "label": label or None,
            "error_code": code or None, "bytes": size, "model_version": 1, "batch_id": number,
            "event_time": at, "seen_at": at.timestamp(),
        } | other)  # fmt: skip
    return pa.Table.from_pylist(rows)


def test_a_table_with_one_right_row_for_each_image_is_right(sent, monkeypatch):
    assert list(check.wrong(table(), sent, [])) == []
    monkeypatch.setattr(check, "PIECE", 1)
    assert list(check.wrong(table(), sent, [])) == []


@pytest.mark.parametrize(
    ("rows", "kinds"),
    [
        (table(numbers=(0, 2, 3)), ["lost"]),
        (table(numbers=(0, 1, 2, 3, 3)), ["doubled"]),
        (table(label="1"), ["unlike"] * 3),
        (table(original_name="soak-0000000009.png"), ["lost"] * 4 + ["invented"] * 4),
        (table(original_name="other.png"), ["invented"] * 4 + ["lost"] * 4),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_the_checker_of_chaos(sent, rows, kinds):
    assert [each.partition(":")[0] for each in check.wrong(rows, sent, [])] == kinds


def test_what_parts_have_done_wrong_is_told_once(sent, monkeypatch):
    monkeypatch.setattr(check, "PIECE", 1)
    told = [{"kind": "wrong", "what": "it started", "at": 1.0}]
    assert list(check.wrong(table(), sent, told)) == ["wrong: it started"]


def test_a_reader_sees_no_error_and_no_fewer_rows_than_before(tmp_path):
    file = tmp_path / "reader.jsonl"
    looks = [{"rows": 5}, {"rows": 9}, {"error": "gone"}, {"rows": 8}, {"rows": 10}]
    file.write_text("".join(json.dumps(each) + "\n" for each in looks))
    assert list(faults_of_reader(file)) == ["reader: gone", "reader: 8 rows after 9"]
