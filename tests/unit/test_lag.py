"""streaming.kafka.lag: what a stream has read of a topic, and what it has missed."""

from pathlib import Path

import pytest

from sightstream.config import Broker
from streaming.kafka.lag import Partition, Topic


@pytest.mark.parametrize(
    ("begin", "committed", "end", "lag", "lost"),
    [
        (0, 0, 10, 10, range(0)),
        (0, 10, 10, 0, range(0)),
        (5, 7, 10, 3, range(0)),
        (5, 3, 10, 5, range(3, 5)),
        (10, 3, 10, 0, range(3, 10)),
        (0, 7, 2, 0, range(2, 7)),
    ],
)
def test_what_a_partition_has_in_store(begin, committed, end, lag, lost):
    stand = Partition(0, begin, committed, end)
    assert stand.lag == lag
    assert list(stand.lost) == list(lost)
    fault = Topic(Broker("here"), "images", Path("none")).loss([stand])
    assert bool(fault) == bool(lost)
    if lost:
        assert f"partition 0: offsets {lost.start} to {lost.stop - 1}" in fault
    assert Topic(Broker("here"), "images", Path("none"), fail_on_loss=False).loss([stand]) == ""
