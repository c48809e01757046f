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
MISSED, BROKEN = 3, 4
"""Exit codes: a deliberate bug made no difference, be it that its fault was left out; and a run did
not come to its end, because a part that it needs did not come up, or by a fault of its own."""

STARTER = world.REPOSITORY / "build" / "chaos" / "starter"


def main() -> int:
    """Returns 0 where nothing was lost, doubled or wrong, 1 where something was; or as above."""
    asked = _arguments()
    # What was started and mounted ends with it, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if asked.seeds:
        code = _many(asked)
    else:
        sources = SOURCES[asked.source or "folder"]
        try:
            code = int(not _right(asked, [*sources, *_others(asked)]))
        except Exception:
            traceback.print_exc(file=sys.stdout)
            return BROKEN
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
    if len(outcomes) < len(range(*asked.seeds)):
        return BROKEN
    return int(any(each.differences for each in outcomes.values()))


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
    try:
        outcome = run(given, planned, parent / "run", _say)
    except Exception:
        _say(f"kept: {parent}")
        raise
    if outcomes is not None:
        outcomes[asked.seed] = outcome
    _tell(outcome)
    if outcome.differences:
        _say(f"kept: {parent}")
        if asked.shrink and outcomes is None:
            least = _shrink(given, planned, outcome.differences[0], parent, asked.shrink)
            _say(f"still shown by: {_repeated(asked)} --only {_numbers(least)}")
        return False
    shutil.rmtree(parent)
    return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides what is sent, and each fault")
    parser.add_argument("--seeds", type=_seeds, help="many, such as 1-30; parts are by each")
    parser.add_argument("--minutes", type=float, default=3, help="of the run [3]")
    parser.add_argument("--source", choices=sorted(SOURCES), help="of the images [folder]")
    parser.add_argument("--store", action="store_true", help="the table is in an object store")
    parser.add_argument("--cluster", action="store_true", help="a cluster of two workers")
    parser.add_argument("--mlflow", action="store_true", help="the registry is behind a server")
    parser.add_argument("--nodes", action="store_true", help="two nodes of Kafka instead of one")
    parser.add_argument("--faults", type=_names, help="names, separated by semicolons; one that "
                        "is unknown shows them all [all the usual ones]")  # fmt: skip
    parser.add_argument("--only", help="numbers of the schedule that are kept, such as 0,3,4; it "
                        "is the same for the same seed, minutes, parts and faults")  # fmt: skip
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="a deliberate bug")
    parser.add_argument("--shrink", type=int, default=6, help="runs to find a shorter schedule [6]")
    parser.add_argument("--starter", type=Path, default=STARTER, help="home of the starter model")
    parser.add_argument("--folder", type=Path, help="where runs are [a temporary one]")
    asked = parser.parse_args()
    if asked.seeds and (asked.source or _others(asked)):
        parser.error("--seeds: the sources and parts are by each seed; give one --seed for others")
    return asked


def _others(asked: argparse.Namespace) -> list[str]:
    return [each for each in OTHERS if getattr(asked, each)]


def _seeds(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        begin, end = int(first), int(last or first) + 1
    except ValueError:
        begin, end = 0, 0
    if begin >= end:
        raise argparse.ArgumentTypeError(f"{text} is no range of seeds; give one such as 1-30")
    return begin, end


def _names(text: str) -> list[str]:
    names = [each.strip() for each in text.split(";")]
    if unknown := [each for each in names if each not in faults.ALL]:
        known = "; ".join(sorted(faults.ALL))
        raise argparse.ArgumentTypeError(f"there is no fault {unknown[0]!r}; there are: {known}")
    return names


def _planned(asked: argparse.Namespace, parts: Sequence[str]) -> list[Planned]:
    """Prints the schedule, and returns the part of it that can be done here."""
    names = asked.faults or [each.name for each in faults.ALL.values() if each.usual]
    chosen = {name: faults.ALL[name] for name in names}
    here = {n: each for n, each in chosen.items() if each.part in ("", *parts)}
    groups: dict[str, dict[str, Span]] = {}
    for name, each in here.items():
        groups.setdefault(each.group or name, {})[name] = each.lasts
    planned = plan(asked.seed, asked.minutes * 60, groups)
    if asked.only is not None:
        kept = {int(number) for number in asked.only.split(",") if number}
        if missing := kept - {each.number for each in planned}:
            _say(f"--only: the schedule has no number {min(missing)}")
            raise SystemExit(2)
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
) -> Sequence[Planned]:  # fmt: skip
    """Returns a shorter schedule that shows a difference of the same kind."""
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

    return shrunk(planned, fails, runs)


def _repeated(asked: argparse.Namespace) -> str:
    """The arguments that make the same schedule."""
    given = [f"--seed {asked.seed}", f"--minutes {asked.minutes:g}"]
    given += [f"--source {asked.source}"] if asked.source else []
    given += [f"--{each}" for each in _others(asked)]
    given += [f"--faults '{';'.join(asked.faults)}'"] if asked.faults else []
    return " ".join([*given, *([f"--bug {asked.bug}"] if asked.bug else [])])


def _numbers(some: Sequence[Planned]) -> str:
    return ",".join(str(each.number) for each in some) or '""'


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
