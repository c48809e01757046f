"""docs/metrics.md, from the table of metrics: `python -m streaming.observe.docs`."""

from __future__ import annotations

from pathlib import Path

from streaming.observe.definitions import METRICS

FILE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

Written by `make docs` from the code; a test fails when it is out of date.

`sightstream run` answers at `http://127.0.0.1:9108/metrics` (settings `metrics_host` and
`metrics_port`), in Prometheus' text format. Everything comes from the driver: from the rows of
each micro-batch, from Spark's progress, and from a look every ten seconds at disk, table,
registry and machine. Counters and histograms begin at zero with each start; query them with
`rate` or `increase`. Units are seconds, bytes, and ratios from 0 to 1. No label holds a file name.

`source` is the way an image came; `outcome` is `ok` or the code of the rejection; `label` is one of
the model's; `phase` is `classify`, `commit`, or one that Spark reports; `statistic` is `label`,
`score`, `brightness`, `contrast`, `sharpness` or `size`; `alias` is `champion`, `challenger` or
`newest`.

| metric | type | labels | |
|---|---|---|---|
"""


def page() -> str:
    """The page as Markdown."""
    lines = []
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.help} |\n")
    return _HEAD + "".join(sorted(lines))


if __name__ == "__main__":
    FILE.write_text(page())
