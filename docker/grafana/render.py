"""Draws the dashboards' panels from what a Prometheus holds, without Grafana.

python docker/grafana/render.py http://127.0.0.1:9090 --minutes 10 docs/dashboards
"""

from __future__ import annotations

import argparse
import json
import math
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter

FOLDER = Path(__file__).parent / "dashboards"

ROW, COLUMN = 0.42, 0.68
"""Inches of one unit of Grafana's grid."""

COLOURS = {"green": "#2e8b57", "yellow": "#c98a00", "red": "#c62828"}


def main() -> None:
    """Writes a PNG for each dashboard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of Prometheus")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--minutes", type=float, default=10, help="how far to look back")
    parser.add_argument("--until", type=float, default=time.time(), help="in Unix time [now]")
    arguments = parser.parse_args()
    end = arguments.until
    span = (end - 60 * arguments.minutes, end)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for file in sorted(FOLDER.glob("*.json")):
        figure = drawn(json.loads(file.read_text()), arguments.url, span)
        figure.savefig(arguments.folder / f"{file.stem}.png", dpi=80)
        plt.close(figure)


def drawn(dashboard: dict, url: str, span: tuple[float, float]) -> plt.Figure:
    """A dashboard as a figure, its panels where Grafana has them."""
    panels = dashboard["panels"]
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
    width, height = 24 * COLUMN, rows * ROW + 0.6
    figure = plt.figure(figsize=(width, height))
    figure.text(0.3 / width, 1 - 0.35 / height, dashboard["title"], size=15, weight="bold")
    marks = [
        (a["name"], a["iconColor"], when)
        for a in dashboard["annotations"]["list"]
        for _, points in series(url, a["expr"], span)
        for when in beginnings(points, spacing(span))
    ]
    for panel in panels:
        at = panel["gridPos"]
        left, right, top, bottom = 0.62, 0.12, 0.45, 0.72
        if panel["type"] == "stat":
            left = bottom = 0.1
        axes = figure.add_axes(
            (
                (at["x"] * COLUMN + left) / width,
                1 - (0.6 + (at["y"] + at["h"]) * ROW - bottom) / height,
                (at["w"] * COLUMN - left - right) / width,
                (at["h"] * ROW - top - bottom) / height,
            )
        )
        axes.set_title(panel["title"], size=10, loc="left")
        found = [
            (named(target["legendFormat"], labels), points)
            for target in panel["targets"]
            for labels, points in series(url, target["expr"], span)
        ]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        if not found:
            axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes)
            axes.set_axis_off()
        elif panel["type"] == "stat":
            one_number(axes, panel, found[0][1][-1][1], unit)
        else:
            curves(axes, panel, found, unit, span, marks)
    return figure


def beginnings(points: list[tuple[float, float]], step: float) -> list[float]:
    """When a condition came true: the points that have none just before them."""
    times = [when for when, _ in points]
    return [b for a, b in zip([-math.inf, *times], times, strict=False) if b - a > 1.5 * step]


def one_number(axes: Axes, panel: dict, value: float, unit: str) -> None:
    """A stat panel."""
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    reached = [s["color"] for s in steps if s.get("value") is None or value >= s["value"]]
    colour = COLOURS[reached[-1]] if reached else "#1f4e79"
    axes.text(0.5, 0.45, shown(value, unit), size=22, ha="center", va="center", color=colour,
              transform=axes.transAxes)  # fmt: skip
    axes.set_axis_off()


def curves(
    axes: Axes, panel: dict, found: list[tuple[str, list[tuple[float, float]]]], unit: str,
    span: tuple[float, float], marks: list[tuple[str, str, float]],
) -> None:  # fmt: skip
    """A time series panel."""
    defaults = panel["fieldConfig"]["defaults"]
    step = spacing(span)
    times = [span[0] + step * number for number in range(int((span[1] - span[0]) / step) + 1)]
    days = [datetime.fromtimestamp(when) for when in times]
    columns = []
    for _, points in found:
        column = [math.nan] * len(times)  # where nothing was known, the curve has a gap
        for when, value in points:
            column[round((when - span[0]) / step)] = value
        columns.append(column)
    names = [name for name, _ in found]
    if defaults["custom"].get("stacking", {}).get("mode") == "normal":
        filled = [[0 if math.isnan(v) else v for v in column] for column in columns]
        axes.stackplot(days, filled, labels=names, alpha=0.8)
    else:
        for name, column in zip(names, columns, strict=True):
            axes.plot(days, column, label=name, linewidth=1.6)
    for _, colour, when in marks:
        axes.axvline(datetime.fromtimestamp(when), color=colour, linestyle="--", linewidth=1)
    axes.set_xlim(*map(datetime.fromtimestamp, span))
    highest = max((v for column in columns for v in column if math.isfinite(v)), default=1)
    axes.set_ylim(0, defaults.get("max") or (None if highest > 0 else 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.grid(alpha=0.25)
    inches = axes.figure.get_figwidth() * axes.get_position().width
    columns = int(inches / (0.4 + 0.065 * max(map(len, names))))
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=max(1, min(5, columns)),
                frameon=False, fontsize=8, handlelength=1, columnspacing=1)  # fmt: skip


def shown(value: float, unit: str) -> str:
    """A value as a person reads it."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        power = min(4, int(math.log(value, 1024))) if value >= 1 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    if unit == "s":
        if value >= 120:
            return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"
        return f"{value:.3g} s" if value >= 1 or not value else f"{1000 * value:.3g} ms"
    return (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}") + ("/s" if unit == "cps" else "")


def named(legend: str, labels: dict[str, str]) -> str:
    """Grafana's legend with its labels filled in."""
    for key, value in labels.items():
        legend = legend.replace(f"{{{{{key}}}}}", value)
    return legend


def spacing(span: tuple[float, float]) -> float:
    """Seconds between two points of a curve."""
    return max(1, (span[1] - span[0]) / 300)


def series(url: str, query: str, span: tuple[float, float]) -> list[tuple[dict, list]]:
    """The labels and points (seconds, value) of an answer over a span of time."""
    start, end = span
    asked = urlencode({
        "query": query.replace("$__rate_interval", "30s"), "start": start, "end": end,
        "step": spacing(span),
    })  # fmt: skip
    with urlopen(f"{url}/api/v1/query_range?{asked}", timeout=30) as answer:  # noqa: S310
        found = json.load(answer)["data"]["result"]
    rows = [
        (each["metric"], [(t, float(v)) for t, v in each["values"] if math.isfinite(float(v))])
        for each in found
    ]
    return [(labels, points) for labels, points in rows if points]


if __name__ == "__main__":
    main()
