"""docs/metrics.md, from the metrics themselves: `python -m streaming.observe.docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from sightstream import config
from streaming.observe.metrics import Metrics
from streaming.observe.vitals import Vitals

FILE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

Written by `make docs` from the code; a test says when it is out of date.

`sightstream run` answers at `http://127.0.0.1:9108/metrics` (settings `metrics_host` and
`metrics_port`), in Prometheus' text format. Everything comes from the driver: from the rows of
each micro-batch, from Spark's progress, and from a look every ten seconds at disk, table,
registry and machine. Counters and histograms begin at zero with each start; ask for them with
`rate` or `increase`. Units are seconds, bytes, and ratios from 0 to 1. No label holds a file name.

`source` is the way an image came; `outcome` is `ok` or the code of the rejection; `label` is one of
the model's; `phase` is `classify`, `commit`, or one that Spark reports; `statistic` is `label`,
`score`, `brightness`, `contrast`, `sharpness` or `size`; `alias` is `champion`, `challenger` or
`newest`.

| metric | type | labels | |
|---|---|---|---|
"""


class _Remembering(CollectorRegistry):
    """Knows its collectors, those without any value yet included."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: list[Any] = []

    def register(self, collector: Any) -> None:
        self.collectors.append(collector)
        super().register(collector)


def page() -> str:
    """The page as Markdown."""
    registry = _Remembering()
    Vitals(config.load(), Metrics(registry).registry)
    lines = []
    for collector in registry.collectors:
        (family,) = collector.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n")
    return _HEAD + "".join(sorted(lines))


if __name__ == "__main__":
    FILE.write_text(page())
