"""benchmarks.peers: whose turn it is, ratios, tables, and the rows that peers keep."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.peers import report
from benchmarks.peers.peer import SCRIPTS, peers, prepare
from benchmarks.peers.rows import Rows

TITLES = {
    "sightstream": ("**sightstream**", ""),
    "fast": ("Fast", "a table"),
    "slow": ("Slow", "a stream"),
}
OURS = {"images/s": 2000, "ratio": 1, "start, s": 7.06, "MiB": 1063, "p50, p95": [0.088, 0.192]}


def test_every_other_round_runs_backwards():
    assert [report.turns(["a", "b", "c"], n) for n in range(3)] == [
        ["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"],
    ]  # fmt: skip


def test_a_ratio_is_to_the_geometric_mean_of_the_backlogs_before_and_after():
    assert report.ratio(100, 400, 50) == 4
    assert report.ratio(300, 300, 600) == 0.5


def test_a_summary_is_of_medians_and_tells_the_range():
    rounds = [{"images/s": speed, "ratio": ratio} for speed, ratio in ((10, 3), (900, 1), (20, 2))]
    assert report.summary(rounds) == {
        "images/s": 20, "ratio": 2, "range": [1, 3], "rounds": 3,
    }  # fmt: skip
    started = [
        each | {"start": share} for each, share in zip(rounds, (0.9, 0.5, 0.25), strict=True)
    ]
    assert report.summary(started)["ratio without start"] == 0.5


def test_agreement_is_of_images_that_both_have():
    assert report.agreement({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 4}) == "1 of 2"


def test_the_table_is_in_the_order_of_ratios_and_ends_with_what_failed():
    fast = {"images/s": 4000, "ratio": 0.5, "range": [0.4, 0.6], "ratio without start": 0.45,
            "start, s": 1, "MiB": 97, "equal labels": "9 of 10"}  # fmt: skip
    figures = {"slow": {"error": "it ended"}, "sightstream": OURS, "fast": fast}
    assert report.table(figures, TITLES)[2:] == [
        "| Fast | 4,000 | 0.50 (0.40-0.60); 0.45 without the start of a job | 1.0 | 97 | - "
        "| 9 of 10 | a table |",
        "| **sightstream** | 2,000 | 1 | 7.1 | 1,063 | 88 / 192 ms |  |  |",
        "| Slow | failed: it ended |  |  |  |  |  | a stream |",
    ]


def test_the_page_names_date_machine_and_command():
    loads = [{"load": 1.5}, {"load": 7.0}, {"load": 2.04}]
    told = {
        "date": "1 May 2026",
        "machine": {"cores": 2, "cpu": "A CPU", "python": "3.13.0", "pyspark": "4.3.0"},
        "settings": {"rounds": 11, "command": "make bench-peers"},
        "workloads": {
            name: {"images": 2000, "figures": {"sightstream": OURS}, "rounds": {"fast": loads}}
            for name in ("24x24", "MobileNetV2")
        },
    }
    first, _, part, *rest = report.markdown(told, TITLES).splitlines()
    assert first == ("1 May 2026, 2 cores of A CPU, Python 3.13.0, Spark 4.3.0: `make bench-peers`")
    assert part == "24x24: 2000 images a round, 11 rounds, load average 2.0"
    heads = [line for line in rest if line.startswith("|  |")]
    assert ["what it lacks" in head for head in heads] == [True, False]


@pytest.mark.parametrize("name", peers())
def test_what_is_said_of_a_peer_holds(name):
    peer = peers()[name]
    assert (SCRIPTS / peer.script).exists()
    assert peer.kind in {"job", "stream"}
    assert peer.rows in {"csv", "parquet", "sink"}
    pinned = peer.requirements and (SCRIPTS / peer.requirements).read_text().split()
    assert all(re.fullmatch(r"[\w-]+(\[\w+\])?==[\d.]+", each) for each in pinned)


def test_a_peer_that_cannot_be_installed_says_why(tmp_path):
    from dataclasses import replace

    peer, said = replace(peers()["fastapi"], python="2.0"), []
    with pytest.raises(RuntimeError, match=r"2\.0"):
        prepare(peer, tmp_path, said.append)
    assert said[0].startswith("fastapi: installing ")


# Rows


def test_a_line_counts_once_it_is_whole(tmp_path):
    rows = Rows(tmp_path, "csv")
    assert rows.new() == []
    with (tmp_path / "1.csv").open("a") as out:
        for text, new in (
            ("/in/a.jpg,3\n/in/b,c.jpg,12\n/in/d.j", [("a.jpg", 3), ("b,c.jpg", 12)]),
            ("pg,1", []), ("\n", [("d.jpg", 1)]), ("", []),
        ):  # fmt: skip
            out.write(text)
            out.flush()
            assert rows.new() == new


def write(folder, name, path, label):
    table = pa.table({"path": [path], "label": pa.array([label], pa.int32())})
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / name)
    return json.dumps({"path": f"file://{folder / name}", "action": "add"})


def test_parquet_counts_once(tmp_path):
    rows = Rows(tmp_path, "parquet")
    write(tmp_path / "1", "a.parquet", "/in/a.jpg", 3)
    assert [rows.new(), rows.new()] == [[("a.jpg", 3)], []]
    write(tmp_path / "2", "a.parquet", "/in/b.jpg", 4)
    assert rows.new() == [("b.jpg", 4)]


def test_of_sparks_sink_counts_what_its_log_has(tmp_path):
    rows, log = Rows(tmp_path, "sink"), tmp_path / "_spark_metadata"
    log.mkdir()
    first = write(tmp_path, "a.parquet", "file:/in/a.jpg", 3)
    assert rows.new() == []
    (log / "0").write_text(f"v1\n{first}")
    assert rows.new() == [("a.jpg", 3)]
    (log / "1.compact").write_text(
        f"v1\n{first}\n{write(tmp_path, 'b.parquet', 'file:/in/b.jpg', 4)}"
    )
    assert [rows.new(), rows.new()] == [[("b.jpg", 4)], []]
