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
    assert topic().is_anew([stand]) == (committed > end)
    with pytest.raises(MessagesLostError, match=found) if lost else nullcontext():
        topic().require_all([stand])
    topic(fail_on_loss=False).require_all([stand])


def topic(folder=Path("none"), **more):
    return Topic(Broker("here"), "images", folder, **more)


def test_what_an_open_transaction_holds_back_is_neither_lost_nor_lag():
    stand = Partition(0, 0, committed=9, end=5, stored=9)
    assert (stand.lag, list(stand.lost)) == (0, [])
    assert not topic().is_anew([stand])
    topic().require_all([stand])


class TestTopicId:
    """Which topic of its name a checkpoint is of."""

    @pytest.fixture
    def begun(self, tmp_path):
        """The topic of a checkpoint in which Spark has begun to write."""
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "metadata").write_text('{"id": "app"}')
        return topic(tmp_path / "images")

    def stands(self, topic_id):
        return [Partition(0, 0, 5, 9, 9, topic_id)]

    def test_a_checkpoint_of_before_takes_the_topic_that_is_there(self, begun):
        assert not begun.is_anew(self.stands("one"))
        begun.note("one")
        assert not begun.is_anew(self.stands("one"))

    def test_another_topic_of_the_name_is_told_with_what_to_do(self, begun):
        begun.note("one")
        with pytest.raises(MessagesLostError) as told:
            begun.require_all(self.stands("two"))
        assert told.value.exit_code == 8
        assert "its id was one, and is two" in str(told.value)
        assert f"mv {begun.checkpoint} {begun.checkpoint}.old" in str(told.value)

    def test_a_broker_without_ids_says_nothing(self, begun):
        begun.note("one")
        assert not begun.is_anew(self.stands(""))
        begun.note("")
        assert begun.is_anew(self.stands("two"))

    def test_before_the_first_micro_batch_no_topic_is_another(self, tmp_path):
        fresh = topic(tmp_path / "new" / "images")
        fresh.note("one")
        assert not fresh.is_anew(self.stands("two"))
        fresh.note("two")
        assert (fresh.checkpoint / "topic-id").read_text() == "two"

    def test_put_aside_it_begins_anew(self, begun):
        begun.note("one")
        begun.put_aside()
        assert not begun.is_anew(self.stands("two"))
        (aside,) = begun.checkpoint.parent.iterdir()
        assert (aside / "topic-id").read_text() == "one"
