"""`python -m tests.chaos`: faults by a seed, and whether each image got its one row."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos import faults, world
from tests.chaos.bugs import BUGS
from tests.chaos.run import Given, Outcome, run
from tests.chaos.schedule import Planned, Span, plan, shrunk

SOURCES = {"folder": ["folder"], "kafka": ["kafka"], "both": ["folder", "kafka"]}
OTHERS = ("store", "cluster", "mlflow", "nodes")
MISSED = 2
"""Exit code where a deliberate bug makes no difference, be it that its fault was left out."""

STARTER = world.REPOSITORY / "build" / "chaos" / "starter"


def main() -> int:
    """Returns 0 where nothing was lost, doubled or wrong, and `MISSED` where that hides a bug."""
    asked = _arguments()
    # What was started and mounted ends with it, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if asked.seeds:
        code = _many(asked)
    else:
        parts = [*SOURCES[asked.source], *(each for each in OTHERS if getattr(asked, each))]
        code = int(not _right(asked, parts))
    if asked.bug and not code:
        _say(f"the bug {asked.bug} was not found")
        return MISSED
    return code


def _many(asked: argparse.Namespace) -> int:
    """Runs many seeds, with sources and other parts by the seed, and tells of all at the end."""
    outcomes: dict[int, Outcome] = {}
    try:
        for seed in range(*asked.seeds):
            asked.seed = seed
            try:
                _right(asked, parts_of(seed), outcomes)
            except Exception:  # a part that the run needs did not come up: the others go on
                traceback.print_exc(file=sys.stdout)
    finally:
        _say("\n".join(table(outcomes)))
    right = all(not each.differences for each in outcomes.values())
    return int(not right or len(outcomes) < len(range(*asked.seeds)))


def parts_of(seed: int) -> list[str]:
    """The parts of a seed among many: a third has each source, and a fifth each other part."""
    source = list(SOURCES.values())[seed % 3]
    other = ["cluster", "store", "mlflow", "nodes", ""][seed % 5]
    return [*source, *([other] if other and (other != "nodes" or "kafka" in source) else [])]


def table(outcomes: Mapping[int, Outcome]) -> Iterator[str]:
    """What runs have shown, by seed; and the longest pause of good images, by fault."""
    yield "seed    sent    rows   lost doubled  other starts  parts"
    longest: dict[str, tuple[float, int]] = {}
    effects: dict[str, tuple[int, int]] = {}
    excused: Counter[str] = Counter()
    for seed, each in outcomes.items():
        kinds = Counter(one.partition(":")[0] for one in each.differences)
        others = kinds.total() - kinds["lost"] - kinds["doubled"]
        yield (
            f"{seed:4d} {each.sent:7d} {each.rows:7d} {kinds['lost']:6d} {kinds['doubled']:7d} "
            f"{others:6d} {each.starts:6d}  {', '.join(each.parts)}"
        )
        for name, seconds in each.pauses.items():
            longest[name] = max(longest.get(name, (0.0, 0)), (seconds, seed))
        for name, (had, there) in each.effects.items():
            before = effects.get(name, (0, 0))
            effects[name] = before[0] + had, before[1] + there
        excused.update(each.excused)
    yield "longest pause of good images, by the fault before it"
    for name, (seconds, seed) in sorted(longest.items(), key=lambda each: -each[1][0]):
        yield f"  {seconds:6.1f} s  {name} (seed {seed})"
    yield from (f"{count} images {why}" for why, count in excused.items() if count)
    yield "faults that had an effect"
    for name, (had, there) in sorted(effects.items()):
        yield f"  {had:3d} of {there:3d}  {name}"


def _right(
    asked: argparse.Namespace, parts: Sequence[str], outcomes: dict[int, Outcome] | None = None
) -> bool:
    """Runs one seed, and tells of it."""
    planned = _planned(asked, parts)
    given = Given(world.starter(asked.starter), parts, asked.seed, asked.minutes * 60, asked.bug)
    parent = Path(tempfile.mkdtemp(prefix="chaos-", dir=asked.folder))
    outcome = run(given, planned, parent / "run", _say)
    if outcomes is not None:
        outcomes[asked.seed] = outcome
    _tell(outcome)
    if outcome.differences:
        _say(f"kept: {parent}")
        if asked.shrink and outcomes is None:
            _shrink(given, planned, outcome.differences[0], parent, asked.shrink)
        return False
    shutil.rmtree(parent)
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides what is sent, and each fault")
    parser.add_argument("--seeds", type=_seeds, help="many, such as 1-30; parts are by the seed")
    parser.add_argument("--minutes", type=float, default=3, help="of the run [3]")
    parser.add_argument("--source", choices=sorted(SOURCES), default="folder")
    parser.add_argument("--store", action="store_true", help="the table is in an object store")
    parser.add_argument("--cluster", action="store_true", help="a cluster of two workers")
    parser.add_argument("--mlflow", action="store_true", help="the registry is behind a server")
    parser.add_argument("--nodes", action="store_true", help="two nodes of Kafka instead of one")
    parser.add_argument("--faults", help="names, separated by semicolons [all the usual ones]")
    parser.add_argument("--only", help="numbers of the schedule that are kept, such as 0,3,4")
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="a deliberate bug")
    parser.add_argument("--shrink", type=int, default=6, help="runs that look for less [6]")
    parser.add_argument("--starter", type=Path, default=STARTER, help="home of the starter model")
    parser.add_argument("--folder", type=Path, help="where runs are [a temporary one]")
    return parser.parse_args()


def _seeds(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first) + 1


def _planned(asked: argparse.Namespace, parts: Sequence[str]) -> list[Planned]:
    """Prints the schedule, and returns the part of it that can be done here."""
    names = [each.strip() for each in asked.faults.split(";")] if asked.faults else [
        each.name for each in faults.ALL.values() if each.usual
    ]  # fmt: skip
    chosen = {name: faults.ALL[name] for name in names}
    here = {n: each for n, each in chosen.items() if each.part in ("", *parts)}
    groups: dict[str, dict[str, Span]] = {}
    for name, each in here.items():
        groups.setdefault(each.group or name, {})[name] = each.lasts
    planned = plan(asked.seed, asked.minutes * 60, groups)
    if asked.only is not None:
        kept = {int(number) for number in asked.only.split(",") if number}
        planned = [each for each in planned if each.number in kept]
    _say(f"seed {asked.seed}, {asked.minutes:g} minutes, {', '.join(parts)} {asked.bug}".rstrip())
    possible = []
    for each in planned:
        why = faults.ALL[each.name].missing()
        _say(f"{each}{f': left out, for {why}' if why else ''}")
        possible += [] if why else [each]
    return possible


def _tell(outcome: Outcome) -> None:
    _say(f"{outcome.sent} images arrived, {outcome.rows} rows, {outcome.starts} starts")
    for name, seconds in sorted(outcome.pauses.items(), key=lambda each: -each[1]):
        _say(f"  {seconds:6.1f} s  {name}")
    for why, count in outcome.excused.items():
        if count:
            _say(f"{count} images {why}")
    had, there = (sum(each) for each in zip((0, 0), *outcome.effects.values(), strict=True))
    _say(f"{had} of {there} faults had an effect")
    if not outcome.differences:
        _say("verdict: nothing lost, nothing doubled, nothing wrong")
        return
    _say(f"verdict: {len(outcome.differences)} differences; the first: {outcome.differences[0]}")
    for each in outcome.differences[1:10]:
        _say(f"  {each}")


def _shrink(
    given: Given, planned: list[Planned], first: str, parent: Path, runs: int
) -> None:  # fmt: skip
    """Prints a shorter schedule that shows a difference of the same kind."""
    kind, number = first.partition(":")[0], 0

    def fails(some: Sequence[Planned]) -> bool:
        nonlocal number
        number += 1
        _say(f"with {_numbers(some)} alone")
        end = max((each.second + each.seconds for each in some), default=0) + 20
        shorter = replace(given, seconds=min(given.seconds, end))
        found = run(shorter, some, parent / f"run-{number}", lambda line: None)
        _say(f"  {found.differences[0] if found.differences else 'nothing is wrong'}")
        shutil.rmtree(parent / f"run-{number}")
        return any(each.startswith(kind) for each in found.differences)

    least = shrunk(planned, fails, runs)
    _say(f"still shown by: --only {_numbers(least)}")


def _numbers(some: Sequence[Planned]) -> str:
    return ",".join(str(each.number) for each in some) or '""'


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
