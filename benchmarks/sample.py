"""One look at a home folder and at the stream on it: what commands, page and log take now."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TypeVar

import psutil
import pyarrow as pa

from benchmarks import stream
from sightstream.config import Settings
from sightstream.tables.predictions import opened

ROUNDS = 3
"""Runs of each command, of which the median counts."""

PAGE = Path(__file__).parents[1] / "web" / "live.py"

QUERIES = {
    "count": "select count(*) from predictions",
    "by label": "select label, count(*) from predictions where date = current_date group by label",
}

MIB = 2**20

T = TypeVar("T")


def cpu(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Seconds of cores that a process tree has taken by kind, its processes that ended included."""
    found, root = {"driver": 0.0, "JVM": 0.0, "workers": 0.0}, psutil.Process(process.pid)
    for each in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            kind = "JVM" if each.name() == "java" else "workers"
            times = each.cpu_times()
            found["driver" if each == root else kind] += times.user + times.system
            found["workers"] += times.children_user + times.children_system
    return found


def age(process: subprocess.Popen[bytes]) -> float:
    """Seconds since a process was started."""
    return time.time() - float(psutil.Process(process.pid).create_time())


def memory(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """MiB of a process tree by kind, without file pages; shared pages count by their share."""
    root = psutil.Process(process.pid)
    found = {"memory, MiB": stream.memory(process) / MIB}
    found["driver, MiB"] = root.memory_info().rss / MIB
    javas = [each for each in root.children(recursive=True) if each.name() == "java"]
    found["JVM, MiB"] = sum(each.memory_info().rss for each in javas) / MIB
    return found


def readers(settings: Settings) -> dict[str, float]:
    """Milliseconds and core-milliseconds of `status`, of queries, and of the page's list."""
    home = ("--home", str(settings.root))
    found = _command("status", "status", *home)
    for name, sql in QUERIES.items():
        found |= _command(f"query, {name}", "query", sql, *home)
    return found | _page(settings)


def log(settings: Settings) -> dict[str, float]:
    """Entries and bytes of the table's log, and milliseconds to list it and to open the table."""
    folder = Path(settings.predictions, "_delta_log")
    entries, listing = _timed(lambda: list(os.scandir(folder)))
    table, opening = _timed(lambda: opened(settings.predictions))
    files = pa.table(table.get_add_actions())
    return {
        "log entries": len(entries),
        "log, MiB": sum(each.stat().st_size for each in entries) / MIB,
        "list the log, ms": listing,
        "open the table, ms": opening,
        "table files": len(files),
        "table, MiB": sum(files["size_bytes"].to_pylist()) / MIB,
        "manifests": sum(1 for _ in os.scandir(settings.manifests)),
    }


def phases(port: int) -> dict[str, tuple[float, float]]:
    """Number and seconds of the phases of all micro-batches so far, from the stream's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    pattern = r'^sightstream_batch_phase_seconds_(count|sum)\{phase="(\w+)"\} (\S+)'
    read = {(name, kind): float(v) for kind, name, v in re.findall(pattern, text, re.M)}
    return {name: (read[name, "count"], read[name, "sum"]) for name, _ in read}


def _command(name: str, *arguments: str) -> dict[str, float]:
    walls, cores = [], []
    for _ in range(ROUNDS):
        begin, before = time.monotonic(), _of_children()
        subprocess.run(
            [sys.executable, "-m", "sightstream", *arguments], check=True, stdout=subprocess.PIPE
        )
        walls.append(1000 * (time.monotonic() - begin))
        cores.append(1000 * (_of_children() - before))
    return {f"{name}, ms": median(walls), f"{name}, core-ms": median(cores)}


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _page(settings: Settings) -> dict[str, float]:
    """The page `Live` as a new session draws it, with nothing cached, without the browser."""
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    os.environ["SIGHTSTREAM_HOME"] = str(settings.root)
    walls, cores = [], []
    for _ in range(ROUNDS + 1):  # the first imports
        st.cache_data.clear()
        begin, before = time.monotonic(), time.process_time()
        seen = AppTest.from_file(str(PAGE), default_timeout=120).run()
        walls.append(1000 * (time.monotonic() - begin))
        cores.append(1000 * (time.process_time() - before))
        if seen.exception or not seen.button:
            raise RuntimeError(f"the page shows no rows: {seen.exception}")
    return {"page, ms": median(walls[1:]), "page, core-ms": median(cores[1:])}


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    taken = []
    for _ in range(ROUNDS):
        begin = time.monotonic()
        result = work()
        taken.append(1000 * (time.monotonic() - begin))
    return result, median(taken)
