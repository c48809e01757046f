"""The order of a comparison, its ratios, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import median
from typing import Any


def turns(names: Sequence[str], number: int) -> list[str]:
    """Who is measured in a round, from 0 on, each between two backlogs of sightstream.

    Every other round runs backwards, since the machine may be slower after one than another.
    """
    return list(names[:: -1 if number % 2 else 1])


def ratio(before: float, after: float, other: float) -> float:
    """Sightstream's images a second, of the backlogs before and after a peer's, to the peer's."""
    return sqrt(before * after) / other


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Medians of a peer's rounds, and the range of its ratios.

    Args:
        rounds: images a second, the ratio, and of a batch framework the share of the time that
            the start of a job takes.
    """
    ratios = [each["ratio"] for each in rounds]
    told: dict[str, Any] = {
        "images/s": round(median(each["images/s"] for each in rounds)),
        "ratio": round(median(ratios), 2),
        "range": [round(min(ratios), 2), round(max(ratios), 2)],
        "rounds": len(rounds),
    }
    if "start" in rounds[0]:
        alone = [each["ratio"] * (1 - each["start"]) for each in rounds]
        told["ratio without start"] = round(median(alone), 2)
    return told


def agreement(ours: dict[str, int], theirs: dict[str, int]) -> str:
    """How many of the images that both have got the same label."""
    both = ours.keys() & theirs.keys()
    return f"{sum(ours[name] == theirs[name] for name in both)} of {len(both)}"


def markdown(results: dict[str, Any], titles: dict[str, tuple[str, str]]) -> str:
    """A table for each workload; the first tells what each lacks.

    Args:
        results: as the comparison writes them.
        titles: of the peers by name, and what they lack.
    """
    told, machine = results["settings"], results["machine"]
    lines = [
        f"{results['date']}, {machine['cores']} cores of {machine['cpu']}, Python "
        f"{machine['python']}, Spark {machine['pyspark']}: `{told['command']}`",
    ]
    for name, part in results["workloads"].items():
        loads = [each["load"] for rounds in part["rounds"].values() for each in rounds]
        head = f"{name}: {part['images']} images a round, {told['rounds']} rounds"
        lines += ["", f"{head}, load average {median(loads):.1f}" if loads else head, ""]
        lines += table(part["figures"], titles)
        titles = {peer: (title, "") for peer, (title, _) in titles.items()}
    return "\n".join(lines) + "\n"


def table(figures: dict[str, dict[str, Any]], titles: dict[str, tuple[str, str]]) -> list[str]:
    """Rows of Markdown, in the order of the ratios; a peer that failed comes last."""
    head = ["", "images/s", "sightstream / it", "start, s", "MiB", "p50 / p95", "equal labels"]
    if with_lacks := any(lacks for _, lacks in titles.values()):
        head.append("what it lacks")
    lines = [_line(head), _line(["---"] * len(head))]
    for name in sorted(figures, key=lambda each: figures[each].get("ratio", float("inf"))):
        title, lacks = titles[name]
        lines.append(_line([title, *cells(figures[name]), *([lacks] if with_lacks else [])]))
    return lines


def cells(told: dict[str, Any]) -> list[str]:
    """What the table shows of one peer, or of sightstream."""
    if "error" in told:
        return [f"failed: {told['error']}", *[""] * 5]
    speed, relation = f"{told['images/s']:,}", "1"
    if "range" in told:
        low, high = told["range"]
        relation = f"{told['ratio']:.2f} ({low:.2f}-{high:.2f})"
    if "ratio without start" in told:
        relation += f"; {told['ratio without start']:.2f} without the start of a job"
    delays = " / ".join(f"{1000 * each:.0f}" for each in told.get("p50, p95", ()))
    memory, start = f"{told['MiB']:,}", f"{told['start, s']:.1f}"
    return [speed, relation, start, memory, f"{delays} ms" if delays else "-",
            told.get("equal labels", "")]  # fmt: skip


def _line(values: Iterable[str]) -> str:
    return f"| {' | '.join(values)} |"
