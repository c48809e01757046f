"""`python -m tests.soak`: hours of a steady flow with faults, and whether anything has grown."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos import checker, faults, world
from tests.chaos.run import _do, _until_ready
from tests.soak import around, check, picture, samples, timetable, verdict
from tests.soak.flow import ahead, steady
from tests.soak.home import Soaked

if TYPE_CHECKING:
    from tests.chaos.schedule import Planned
    from tests.soak.verdict import Line

FAULTS = [
    "kill worker", "kill daemon", "stop worker", "lethal image", "second run", "disk full",
    "no inodes",
]  # fmt: skip
"""The usual ones. None ends the driver: its memory is compared within the life of one process."""

AHEAD = 4000
"""Images on their way while the capacity is measured."""

WARM, MEASURED = 20.0, 20.0
"""Seconds before the capacity is measured, and meanwhile."""

Act = Callable[[], str]


def main() -> int:
    """Returns 0 where each line is flat, and nothing was lost, doubled or wrong."""
    asked = _arguments()
    out = asked.out or Path(tempfile.mkdtemp(prefix="soak-"))
    out.mkdir(parents=True, exist_ok=True)
    parent = Path(tempfile.mkdtemp(prefix="soak-home-", dir=asked.folder))
    with Soaked(parent / "run", world.starter(asked.starter), ["folder"], asked.seed) as soaked:
        ran, differences, latencies = _run(soaked, asked, out)
    lines = [*verdict.of_samples(samples.read(out / "samples.jsonl")), *latencies]
    marks = [each["begin"] - ran["begin"] for each in ran["faults"]]
    picture.draw(lines, marks, ran["seconds"], out / "soak.png")
    told = _told(lines, ran["seconds"])
    ran |= {"lines": told, "differences": differences[:100]}
    (out / "result.json").write_text(json.dumps(ran, indent=1) + "\n")
    _tell(ran, out)
    if differences:
        _say(f"kept: {parent}")
    else:
        shutil.rmtree(parent)
    return int(bool(differences) or not all(each["flat"] for each in told))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120, help="of the run [120]")
    parser.add_argument("--seed", type=int, default=1, help="decides what is sent, and each fault")
    parser.add_argument(
        "--share", type=float, default=0.6, help="of the capacity that is sent [0.6]"
    )
    parser.add_argument("--rate", type=float, help="images a second, instead of a share")
    parser.add_argument(
        "--faults", default=";".join(FAULTS), help="names, one a minute [%(default)s]"
    )
    parser.add_argument("--promote", type=float, default=5, help="minutes between promotions [5]")
    parser.add_argument("--refresh", type=float, default=20, help="minutes between trainings [20]")
    parser.add_argument("--out", type=Path, help="gets samples, result and picture [a new folder]")
    parser.add_argument("--starter", type=Path, default=world.REPOSITORY / "build/chaos/starter",
                        help="home of the starter model")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="where the home is [a temporary one]")
    return parser.parse_args()


def _run(
    soaked: Soaked, asked: argparse.Namespace, out: Path
) -> tuple[dict[str, Any], list[str], list[Line]]:
    seconds = 60 * asked.minutes
    table = soaked.home.settings.predictions
    _until_ready(soaked)
    with ExitStack() as stack:
        stack.enter_context(soaked.flowing())
        stack.enter_context(around.reader(table, out / "reader.jsonl"))
        page = stack.enter_context(around.window(stack.enter_context(soaked.page())))
        scraper = stack.enter_context(around.scraped(out / "prometheus", soaked.metrics))
        _say(f"looked at by a reader, {page}, {scraper}")
        capacity = _capacity(soaked)
        rate = asked.rate or asked.share * capacity
        _say(f"capacity {capacity:.0f} images/s; {rate:.0f} are sent from now on")
        sampler = samples.Sampler(
            out / "samples.jsonl", soaked.home.settings.root, soaked.used_by,
            lambda: {"sent": soaked.flow.sent, "rows": soaked.arrived.rows},
        )  # fmt: skip
        begin = time.time()
        soaked.flow.due = steady(soaked.flow, rate)
        sampler.start()
        _follow(soaked, asked, begin, seconds)
        _wait(soaked, begin + seconds)
        sampler.stopping.set()
        soaked.flow.due = float
        soaked.trained()
        _drained(soaked)
    soaked.stop()
    if sampler.error:
        raise sampler.error
    entries = soaked.ledger.entries()
    rows = check.table(table, soaked.arrived.seen)
    found = [*check.wrong(rows, soaked.sent, entries),
             *around.faults_of_reader(out / "reader.jsonl")]  # fmt: skip
    every = max(5.0, min(60.0, seconds / 40))
    latencies = verdict.of_latencies(*check.latencies(rows, begin, seconds), every)
    ran = {
        "begin": begin, "seconds": seconds, "seed": asked.seed, "capacity": capacity, "rate": rate,
        "sent": soaked.flow.sent, "rows": len(rows), "starts": soaked.stream.starts,
        "distinct": len(rows["event_id"].unique()), "page": page, "scraper": scraper,
        "faults": [each for each in entries if each["kind"] == "fault"],
    }  # fmt: skip
    return ran, found, latencies


def _capacity(soaked: Soaked) -> float:
    """Rows a second while there are always some images on their way, with all that looks on."""
    soaked.flow.due = ahead(soaked.flow, lambda: soaked.arrived.rows, AHEAD)
    _wait(soaked, time.time() + WARM)
    rows, begin = soaked.arrived.rows, time.monotonic()
    _wait(soaked, time.time() + MEASURED)
    capacity = (soaked.arrived.rows - rows) / (time.monotonic() - begin)
    soaked.flow.due = float
    _drained(soaked)
    return capacity


def _follow(
    soaked: Soaked, asked: argparse.Namespace, begin: float, seconds: float
) -> None:  # fmt: skip
    names = [each.strip() for each in asked.faults.split(";") if each.strip()]
    here = {name: faults.ALL[name].lasts for name in names if not faults.ALL[name].missing()}
    for name in set(names) - here.keys():
        _say(f"{name} is left out, for {faults.ALL[name].missing()}")
    acts: dict[str, Act] = {timetable.PROMOTE: soaked.promote, timetable.REFRESH: soaked.refresh}
    every = {timetable.PROMOTE: 60 * asked.promote, timetable.REFRESH: 60 * asked.refresh}
    for each in timetable.timetable(asked.seed, seconds, here, every):
        _wait(soaked, begin + each.second)
        _happen(soaked, asked.seed, each, acts)


def _happen(soaked: Soaked, seed: int, planned: Planned, acts: dict[str, Act]) -> None:
    if planned.name in acts:
        _say(f"{planned}: {acts[planned.name]()}")
    else:
        _do(soaked, seed, planned, _say)
    waiting = soaked.flow.sent - soaked.arrived.rows
    _say(f"       {soaked.flow.sent} sent, {waiting} without a row")


def _wait(soaked: Soaked, until: float) -> None:
    while (left := until - time.time()) > 0:
        time.sleep(min(left, 0.5))
        if soaked.flow.error:
            raise soaked.flow.error


def _drained(soaked: Soaked) -> None:
    deadline = time.time() + checker.DEADLINE
    while soaked.arrived.rows < soaked.flow.sent and time.time() < deadline:
        _wait(soaked, time.time() + 0.2)


def _told(lines: Sequence[Line], seconds: float) -> list[dict[str, Any]]:
    return [
        {"kind": each.kind, "name": each.name, "second": each.quarter(1, seconds),
         "last": each.quarter(3, seconds), "limit": each.limit, "flat": each.is_flat(seconds)}
        for each in lines
    ]  # fmt: skip


def _tell(ran: dict[str, Any], out: Path) -> None:
    _say(f"{ran['sent']} sent, {ran['rows']} rows, {ran['distinct']} distinct")
    for each in ran["lines"]:
        _say(
            f"  {each['kind']:<11}{each['name']:<9}{each['second']:10.3f} {each['last']:10.3f}  "
            f"{'flat' if each['flat'] else 'NOT FLAT'}"
        )
    if ran["starts"] > 1:
        _say(f"the stream was started {ran['starts']} times: memory is that of several processes")
    for each in ran["differences"][:10]:
        _say(f"  {each}")
    _say(f"{len(ran['differences'])} differences; {out}/soak.png shows the run")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
