"""streaming.query: a query that failed is restarted after a pause, and given up in the end."""

import itertools
from types import SimpleNamespace

import pytest

from sightstream.errors import MessagesLostError, StreamFailedError, reason
from streaming import query as module
from tests.streams import Checkpoint, Running, Source, Table


@pytest.fixture
def clock(monkeypatch):
    """The time as the query sees it; sleeping takes none of ours."""
    now = SimpleNamespace(now=100.0)

    def sleep(seconds):
        now.now += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.now, sleep=sleep))
    return now


@pytest.fixture
def running(tmp_path, clock):
    place = tmp_path / "checkpoint"
    return Running(Source(place, "abc"), Table(), Checkpoint(place))


def broken(*_):
    raise RuntimeError("the disk is full")


def pause(running, clock):
    """Tends a query that failed until it is active again; returns the seconds that this took."""
    begin = clock.now
    for _ in range(10_000):
        running.query.tend()
        if running.spark.isActive:
            return clock.now - begin
        clock.now += 0.1
    raise AssertionError("it is not restarted")


def test_a_query_that_runs_is_left_alone(running):
    spark = running.run().spark
    running.query.tend()
    assert running.spark is spark
    assert running.restarts == 0


# Where Spark cannot note a micro-batch as done, the table has it, and it is skipped each time.
@pytest.mark.parametrize(("part", "step"), [("source", "done"), ("checkpoint", "commit")])
def test_it_is_restarted_after_a_pause_that_doubles_up_to_half_a_minute(running, clock, part, step):
    setattr(getattr(running, part), step, broken)
    pauses = []
    running.run()
    for _ in range(7):
        pauses.append(pause(running, clock))
        running.steps()
        assert running.query.restarts == len(pauses)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30], abs=0.11)
    with pytest.raises(StreamFailedError, match="failed 8 times in a row: the disk is full"):
        running.query.tend()
    assert running.table.counts == {"a": 1, "b": 1}


def test_a_committed_micro_batch_begins_the_count_anew(running, clock):
    done, running.source.done = running.source.done, broken
    running.run()
    for _ in range(3):
        pause(running, clock)
        running.steps()
    running.source.done = done
    pause(running, clock)
    running.steps()
    running.source.ids.append("d")
    running.source.done = broken
    running.steps()
    assert pause(running, clock) == pytest.approx(1, abs=0.11)
    assert running.table.counts == dict.fromkeys("abcd", 1)


def test_failures_are_forgotten_once_spark_notes_a_micro_batch_that_the_table_had(running, clock):
    commit, running.checkpoint.commit = running.checkpoint.commit, broken
    running.run()
    running.query.tend()
    assert running.query.restarts == 1
    running.checkpoint.commit = commit
    pause(running, clock)
    running.spark.step()
    running.query.tend()
    assert running.query.restarts == 0


def test_a_commit_that_failed_and_was_made_all_the_same_is_not_repeated(running, clock):
    append = running.table.append

    def made_and_failed(*arguments):
        append(*arguments)
        running.table.append = append
        raise TimeoutError("no answer from the store")

    running.table.append = made_and_failed
    running.run()
    assert not running.spark.isActive
    pause(running, clock)
    running.steps()
    assert running.table.counts == dict.fromkeys("abc", 1)


def test_a_source_that_is_away_is_waited_for_and_counts_as_no_failure(running, clock):
    running.source.done, done = broken, running.source.done
    running.run()
    running.source.there = False
    for _ in range(1000):
        running.query.tend()
        clock.now += 1
    assert not running.spark.isActive
    running.source.there, running.source.done = True, done
    running.query.tend()
    running.steps()
    assert running.table.counts == dict.fromkeys("abc", 1)
    assert running.restarts == 1


def test_what_a_source_needs_a_person_for_ends_the_stream_at_once(running):
    running.source.done = broken
    running.run()

    def lost():
        raise MessagesLostError("offsets 3 to 5 are gone")

    running.source.check = lost
    with pytest.raises(MessagesLostError, match="offsets 3 to 5"):
        running.query.tend()


def test_a_query_that_spark_cannot_start_is_started_again(running, clock):
    from pyspark.errors import PySparkRuntimeError

    start, times = running.query.launch, []

    def fails_once(on_batch):
        times.append(clock.now)
        if len(times) == 1:
            raise PySparkRuntimeError("the worker that was asked for the source has ended")
        return start(on_batch)

    running.query.launch = fails_once
    running.query.start()
    while len(times) < 2:
        running.query.tend()
        clock.now += 0.1
    running.steps()
    assert times[1] - times[0] == pytest.approx(1, abs=0.11)
    assert running.table.counts == dict.fromkeys("abc", 1)


def test_a_stop_waits_for_the_micro_batch_and_begins_no_other(running, clock):
    running.query.start()
    running.spark.step()
    running.spark.triggers = looks = iter([True, True, False, True])
    running.stopping.set()
    running.query.stop()
    assert list(looks) == [True]
    assert not running.spark.isActive
    assert running.table.counts == {"a": 1, "b": 1}


def test_a_micro_batch_that_spark_begins_during_a_stop_is_refused(running):
    running.query.start()
    running.stopping.set()
    running.spark.step()
    assert isinstance(running.spark.exception(), InterruptedError)
    assert running.table.rows == []


def test_a_stop_does_not_wait_for_ever_for_a_broker_that_is_away(running, clock):
    running.query.start()
    running.spark.triggers = itertools.repeat(True)
    begin = clock.now
    running.query.stop()
    assert clock.now - begin == pytest.approx(module.LEAVE_SECONDS, abs=0.05)
    assert not running.spark.isActive


def test_the_reason_is_the_line_that_tells_it():
    text = (
        "An exception was raised:\n  at Frame\nValueError: it is full\n\n=== Streaming Query ===\nx"
    )

    assert reason(text) == "ValueError: it is full"
    assert reason(RuntimeError()) == "RuntimeError"
