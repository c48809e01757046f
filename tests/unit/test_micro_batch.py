"""streaming.micro_batch: each event is one row, wherever the process ends."""

from contextlib import suppress
from types import SimpleNamespace

import pytest

from sightstream.tables.predictions import Predictions, ask
from streaming.kafka.events import Message, Places
from tests.streams import NOON, Checkpoint, Crash, Running, Source, Table

IDS = ["a", "b", "c", "d", "e"]
ONCE = dict.fromkeys(IDS, 1)

STEPS = {
    "the number of the table": ("table", "last_batch"),
    "the tasks": ("source", "work"),
    "the answers": ("workers", "answers"),
    "the ids of the table": ("table", "known"),
    "the duplicates": ("source", "first"),
    "the commit to the table": ("table", "append"),
    "the figures": ("metrics", "count"),
    "the screen": ("self", "show"),
    "the note that it is done": ("source", "done"),
    "Spark's commit": ("checkpoint", "commit"),
}


@pytest.fixture
def place(tmp_path):
    return tmp_path / "checkpoint"


def crash(running, step, call, after):
    """Ends the process at a call of a step, before it or after it."""
    part, method = STEPS[step]
    owner = running if part == "self" else getattr(running, part)
    real, calls = getattr(owner, method), iter(range(100))

    def dying(*arguments, **keywords):
        last = next(calls) == call
        if last and not after:
            raise Crash
        answer = real(*arguments, **keywords)
        if last:
            raise Crash
        return answer

    setattr(owner, method, dying)
    return lambda: setattr(owner, method, real)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", [0, 1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_costs_no_row_and_makes_no_second_one(place, step, call, after):
    table, checkpoint = Table(), Checkpoint(place)
    first = Running(Source(place, IDS), table, checkpoint)
    mend = crash(first, step, call, after)
    once_only = step in {"the number of the table", "the ids of the table"}
    if call and once_only:  # they are asked in the first micro-batch alone
        first.run()
    else:
        with pytest.raises(Crash):
            first.run()
    mend()
    last = Running(Source(place, IDS), table, checkpoint).run()
    assert table.counts == ONCE
    assert last.spark.isActive


@pytest.mark.parametrize("step", STEPS)
def test_crash_upon_crash_costs_nothing(place, step):
    table, checkpoint = Table(), Checkpoint(place)
    for after in (False, True, False, True):
        running = Running(Source(place, IDS), table, checkpoint)
        mend = crash(running, step, 0, after)
        with suppress(Crash):  # it has got to the end before
            running.run()
        mend()
    Running(Source(place, IDS), table, checkpoint).run()
    assert table.counts == ONCE


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("step", ["the commit to the table", "Spark's commit"])
def test_after_a_crash_a_new_checkpoint_makes_no_second_row(tmp_path, step, size):
    table = Table()
    first = Running(Source(tmp_path / "old", IDS), table, Checkpoint(tmp_path / "old"))
    crash(first, step, 1, after=True)
    with pytest.raises(Crash):
        first.run()
    afresh = Checkpoint(tmp_path / "new", size, "another")
    Running(Source(tmp_path / "new", IDS), table, afresh).run()
    assert table.counts == ONCE


def test_the_table_in_memory_does_as_the_real_one(tmp_path, place):
    table, checkpoint = Predictions(str(tmp_path / "table")), Checkpoint(place)
    first = Running(Source(place, IDS), table, checkpoint)
    mend = crash(first, "the commit to the table", 1, after=True)
    with pytest.raises(Crash):
        first.run()
    mend()
    afresh = Checkpoint(tmp_path / "new", 3, "another")
    Running(Source(place, IDS), table, checkpoint).run()
    Running(Source(tmp_path / "new", IDS), table, afresh).run()
    rows = table._table.to_pyarrow_table()
    assert sorted(rows["event_id"].to_pylist()) == IDS
    assert rows["batch_id"].to_pylist().count(0) == 2


class Topic(Source):
    """Messages of which the first two have no time, read by a stream whose clock is at `now`."""

    name = "kafka"

    def __init__(self, checkpoint, now):
        super().__init__(checkpoint, "012345")
        self._now = now

    def read(self, offsets):
        sent = [-1 if number < "2" else int(1000 * NOON) for number in offsets]
        pairs = zip(map(int, offsets), sent, strict=True)
        messages = [Message(0, number, at, None, b"image", {}) for number, at in pairs]
        return Places("images", "", self._now, 1000).events(messages)


def test_a_topic_that_is_read_again_days_later_makes_no_second_row(tmp_path):
    table = Predictions(str(tmp_path / "table"))
    for place, days in (("old", 0), ("new", 9)):
        source = Topic(tmp_path / place, NOON + days * 86_400)
        Running(source, table, Checkpoint(tmp_path / place, name=place)).run()
    found = ask(table.path, "SELECT event_id FROM predictions")["event_id"].to_pylist()
    assert sorted(found) == [f"images/0/{number}" for number in range(6)]


def test_a_number_that_the_table_has_is_skipped_and_counts_as_done(place):
    table, checkpoint = Table(), Checkpoint(place)
    first = Running(Source(place, IDS), table, checkpoint)
    mend = crash(first, "Spark's commit", 1, after=False)
    with pytest.raises(Crash):
        first.run()
    mend()
    source = Source(place, IDS)
    asked = []
    source.done = lambda number, images, rows: asked.append((number, images, rows is None))
    Running(source, table, checkpoint).run()
    assert asked == [(1, 2, True), (2, 1, False)]


def test_the_table_is_asked_for_ids_until_a_micro_batch_has_none_of_them(place):
    running = Running(Source(place, IDS), Table(), Checkpoint(place))
    asked, known = [], running.table.known
    running.table.known = lambda ids, dates: asked.append(1) or known(ids, dates)
    running.run()
    assert len(asked) == 1


def test_a_micro_batch_that_fails_is_run_again_in_isolation(place):
    ids = ["a", "kills", "c"]
    running = Running(Source(place, ids), Table(), Checkpoint(place)).run()
    found = {row["event_id"]: (row["status"], row["error_code"]) for row in running.table.rows}
    assert found == {"a": ("ok", None), "kills": ("rejected", "crashed"), "c": ("ok", None)}
    assert running.workers.alone == 1
    assert running.spark.isActive


def test_while_a_source_is_away_no_image_is_to_blame(place):
    running = Running(Source(place, ["kills"]), Table(), Checkpoint(place))
    running.query.start()
    running.source.there = False
    running.steps()
    assert (running.workers.alone, running.table.rows) == (0, [])
    assert "a worker ended" in str(running.spark.exception())


def test_while_the_stream_is_being_stopped_no_image_is_to_blame(place):
    running = Running(Source(place, ["kills"]), Table(), Checkpoint(place))
    answers = running.workers.answers

    def stopped(*arguments):
        running.stopping.set()
        return answers(*arguments)

    running.workers.answers = stopped
    running.run()
    assert (running.workers.alone, running.table.rows) == (0, [])


def test_rows_that_cannot_be_shown_are_committed_all_the_same(place):
    running = Running(Source(place, IDS), Table(), Checkpoint(place))

    def broken(rows):
        raise OSError("the terminal is gone")

    running.show = broken
    running.run()
    assert running.table.counts == ONCE


def test_each_micro_batch_takes_the_champion_of_its_moment(place):
    running = Running(Source(place, IDS), Table(), Checkpoint(place))
    running.query.start()
    running.spark.step()
    running.champion.model = SimpleNamespace(**{**vars(running.champion.model), "version": 2})
    running.steps()
    assert [row["model_version"] for row in running.table.rows] == [1, 1, 2, 2, 2]


def test_a_source_leaves_out_rows_of_its_own(place):
    running = Running(Source(place, IDS), Table(), Checkpoint(place, size=5))
    running.source.first = lambda rows: rows.slice(1)
    running.run()
    assert [row["event_id"] for row in running.table.rows] == IDS[1:]
    assert running.shown == IDS[1:]
