"""A histogram for Prometheus that takes a column of values at once."""

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Histogram(Collector):
    """As `prometheus_client.Histogram`, whose `observe` takes 1 us for each value."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str] = (), *,
        buckets: Sequence[float], registry: CollectorRegistry,
    ) -> None:  # fmt: skip
        self.name, self.documentation = name, documentation
        self._labelnames = tuple(labels)
        self._edges = np.array(buckets)
        self._ends = [*(str(float(end)) for end in buckets), "+Inf"]
        self._lock = Lock()
        self._found: dict[tuple[str, ...], tuple[np.ndarray, float]] = {}
        if not labels:
            self.observe([])
        registry.register(self)

    def observe(self, values: ArrayLike, *labels: str) -> None:
        """Count values, which may be none; those that are not numbers are left out."""
        column = np.asarray(values, np.float64).reshape(-1)
        column = column[~np.isnan(column)]
        bins = np.searchsorted(self._edges, column, side="left")
        counts = np.bincount(bins, minlength=len(self._ends))
        with self._lock:
            before, total = self._found.get(labels, (0, 0.0))
            self._found[labels] = (before + counts, total + float(column.sum()))

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The metric without its values."""
        yield HistogramMetricFamily(self.name, self.documentation, labels=self._labelnames)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric with its values."""
        (family,) = self.describe()
        with self._lock:
            found = list(self._found.items())
        for labels, (counts, total) in found:
            buckets = list(zip(self._ends, counts.cumsum().tolist(), strict=True))
            family.add_metric(labels, buckets, total)
        yield family
