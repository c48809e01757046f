"""The picture of a run: memory, open files, threads and latency over its minutes."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.soak.verdict import Line

UNITS = {"memory": "MiB", "open files": "", "threads": "", "latency": "s"}


def draw(lines: Sequence[Line], faults: Sequence[float], seconds: float, out: Path) -> None:
    """Draws lines into a PNG; the two quarters that are compared are grey.

    Args:
        lines: of all kinds.
        faults: the second of each, for a mark at the foot.
        seconds: of the whole run.
        out: the file.
    """
    figure = Figure(figsize=(10, 9), layout="constrained")
    places = figure.subplots(len(UNITS), sharex=True)
    for place, (kind, unit) in zip(places, UNITS.items(), strict=True):
        for quarter in (1, 3):
            place.axvspan(quarter * seconds / 240, (quarter + 1) * seconds / 240, color="0.93")
        for line in (each for each in lines if each.kind == kind and each.points):
            at, values = zip(*line.points, strict=True)
            label = f"{line.name}, x{line.rise(seconds):.3f}"
            place.plot([each / 60 for each in at], values, label=label, linewidth=1)
        place.set_ylabel(f"{kind}, {unit}" if unit else kind)
        place.set_yscale("log" if kind == "latency" else "linear")
        if kind != "latency":
            place.set_ylim(bottom=0)
        marks = [each / 60 for each in faults]
        foot = place.get_xaxis_transform()
        place.plot(marks, [0.01] * len(marks), "|", color="0.5", transform=foot)
        place.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    place.set_xlabel("minutes; a mark is a fault; times: the last quarter's median by the second's")
    place.set_xlim(0, seconds / 60)
    figure.savefig(out, dpi=80)
