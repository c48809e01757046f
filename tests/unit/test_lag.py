"""streaming.kafka.lag: what a stream has read of a topic, and what it has missed."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from sightstream.config import Broker
from sightstream.errors import MessagesLostError
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
    found = f"partition 0: offsets {lost.start} to {lost.stop - 1}"
    with pytest.raises(MessagesLostError, match=found) if lost else nullcontext():
        Topic(Broker("here"), "images", Path("none")).require_all([stand])
    Topic(Broker("here"), "images", Path("none"), fail_on_loss=False).require_all([stand])
