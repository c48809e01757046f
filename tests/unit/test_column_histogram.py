"""The histogram that takes columns, against the one of prometheus_client."""

import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Slow

from streaming.observe.column_histogram import Histogram

BUCKETS = (0.1, 0.5, 1, 2.5)


@pytest.mark.parametrize("labels", [(), ("folder",)])
def test_a_histogram_shows_what_the_client_library_would(labels):
    random = np.random.default_rng(3)
    values = np.concatenate([random.exponential(1, 500), BUCKETS])
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    names = ("source",) if labels else ()
    fast = Histogram("a_seconds", "Time", names, buckets=BUCKETS, registry=ours)
    slow = Slow("a_seconds", "Time", names, buckets=BUCKETS, registry=theirs)
    for part in np.array_split(values, 3):
        fast.observe(part, *labels)
    for value in values:
        (slow.labels(*labels) if labels else slow).observe(value)

    def shown(registry):
        (family,) = registry.collect()
        return {
            (s.name, *sorted(s.labels.items())): pytest.approx(s.value)
            for s in family.samples
            if not s.name.endswith("_created")
        }

    assert {**shown(ours)} == {key: value.expected for key, value in shown(theirs).items()}


def test_what_is_no_number_is_not_counted():
    registry = CollectorRegistry()
    Histogram("a_seconds", "Time", buckets=BUCKETS, registry=registry).observe([1, math.nan, 2])
    assert registry.get_sample_value("a_seconds_count") == 2
